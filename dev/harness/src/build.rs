//! The parts that are built or downloaded once: the control plane (Go) and AWS (Python).
//!
//! They stay in a cache outside the checkout, each under a key made of everything that goes into it.

use std::fs::{self, File};
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustc_hash::FxHasher;

/// The checkout that this runs in: the nearest folder upwards with a `Cargo.lock`. Not where it was compiled: checkouts
/// may share a target folder.
pub fn root() -> PathBuf {
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_path_buf);
    let here = std::env::current_dir().unwrap_or_default();
    let found = here.ancestors().find(|folder| folder.join("Cargo.lock").is_file()).map(Path::to_path_buf);
    found.or(compiled).unwrap_or_default()
}

/// Where the parts are on this machine.
#[derive(Debug, Clone)]
pub struct Parts {
    pub controlplane: PathBuf,
    pub python: PathBuf,
}

impl Parts {
    /// Finds them in the cache or builds them; `say` hears about everything that takes time.
    pub fn ready(say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        let (cache, _lock) = locked_cache()?;
        let controlplane = controlplane(&cache, say)?;
        let python = python(&cache, say)?;
        Ok(Self { controlplane, python })
    }
}

/// Two runs at once must not build the same thing twice: the cache is ours until the file is dropped.
fn locked_cache() -> anyhow::Result<(PathBuf, File)> {
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock().context("waiting for the cache")?;
    Ok((cache, lock))
}

fn cache() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("KARPENTER_RS_CACHE") {
        return Ok(named.into());
    }
    if let Some(base) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(base).join("karpenter-rs"));
    }
    let home = std::env::var_os("HOME").context("HOME: found nothing, expected a folder for the cache")?;
    Ok(PathBuf::from(home).join(".cache/karpenter-rs"))
}

fn controlplane(cache: &Path, say: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    let what = "building the Kubernetes control plane (up to ten minutes, once)";
    go_program(cache, "dev/controlplane", "controlplane", what, say)
}

/// Karpenter's own scheduler, built like the parts: found in the cache, or made once.
pub fn scheduling_peer(say: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    let (cache, _lock) = locked_cache()?;
    go_program(&cache, "benches/karpenter", "karpenter-peer", "building Karpenter's scheduler (minutes, once)", say)
}

/// The program of a Go module in the checkout; flags for the linker may stand beside it in `ldflags.txt`.
fn go_program(cache: &Path, module: &str, name: &str, what: &str, say: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    let source = root().join(module);
    let go = version("go", "version", "install Go 1.26 or newer (https://go.dev/dl)")?;
    let files = files(&source, |name| {
        let is_go = Path::new(name).extension().is_some_and(|extension| extension == "go");
        (is_go && !name.ends_with("_test.go")) || matches!(name, "go.mod" | "go.sum" | "ldflags.txt")
    })?;
    let folder = cache.join(name).join(key(&go, &files)?);
    let binary = folder.join(name);
    if binary.exists() {
        return Ok(binary);
    }
    fs::create_dir_all(&folder)?;
    let flags = source.join("ldflags.txt");
    let flags = if flags.exists() { fs::read_to_string(flags)? } else { String::new() };
    let partial = binary.with_extension("partial");
    let mut build = Command::new("go");
    build.current_dir(&source).args(["build", "-trimpath", "-ldflags", flags.trim(), "-o"]).arg(&partial).arg(".");
    patiently(&mut build, what, say)?;
    fs::rename(partial, &binary)?;
    Ok(binary)
}

fn python(cache: &Path, say: &dyn Fn(&str)) -> anyhow::Result<PathBuf> {
    let wanted = root().join("dev/aws/requirements.lock.txt");
    let python = version("python3", "--version", "apt install python3 python3-venv")?;
    let folder = cache.join("aws-peer").join(key(&python, std::slice::from_ref(&wanted))?);
    let (interpreter, done) = (folder.join("bin/python"), folder.join("complete"));
    if done.exists() {
        return Ok(interpreter);
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&folder);
    patiently(&mut venv, "making a Python environment", say).context("is it there? apt install python3-venv")?;
    let mut install = Command::new(&interpreter);
    install.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&wanted);
    patiently(&mut install, "installing moto (a minute, once)", say)?;
    File::create(done)?;
    Ok(interpreter)
}

/// What a tool says of its version; if it is not there, how to get it.
fn version(tool: &str, argument: &str, hint: &str) -> anyhow::Result<Vec<u8>> {
    match Command::new(tool).arg(argument).stderr(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(output.stdout),
        _ => bail!("{tool}: not found; {hint}"),
    }
}

fn files(folder: &Path, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A name that changes with the tool and with every file. Not for secrets: a cache key only.
fn key(tool: &[u8], files: &[PathBuf]) -> anyhow::Result<String> {
    let mut hasher = FxHasher::default();
    hasher.write(tool);
    for file in files {
        hasher.write(file.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.write(&fs::read(file).with_context(|| file.display().to_string())?);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Runs a command that may take minutes and says every twenty seconds that it is still at it.
fn patiently(command: &mut Command, what: &str, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    say(what);
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| what.to_owned())?;
    let mut told = began;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            say(&format!("{what}: {} s", began.elapsed().as_secs()));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if !status.success() {
        bail!("{what}: {command:?} ended with {status}");
    }
    Ok(())
}
