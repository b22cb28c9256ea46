//! What is done when this process ends, however it ends.

use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context;

/// A shell that waits for the end of its standard input, which the kernel closes with us, even after SIGKILL.
#[derive(Debug)]
pub(crate) struct Janitor {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Janitor {
    /// Clears a folder away. What still writes into it at that moment stops by itself, so it tries until nothing is left.
    pub(crate) fn clearing(folder: &Path) -> anyhow::Result<Self> {
        Self::start("until rm -rf -- \"$0\"; do sleep 0.2; done", &folder.display().to_string())
    }

    /// Kills a process of ours that would go on without us.
    pub(crate) fn killing(process: u32) -> anyhow::Result<Self> {
        Self::start("kill -9 \"$0\"", &process.to_string())
    }

    fn start(afterwards: &str, argument: &str) -> anyhow::Result<Self> {
        let script = format!("trap '' INT TERM HUP; cat > /dev/null; {afterwards}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, argument]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().context("sh, to clean up afterwards")?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin })
    }

    /// There is nothing left to do.
    pub(crate) fn dismiss(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
