package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is a component that runs as a child of the supervisor.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	// done is closed once the child has been waited for; err then says how it ended.
	done chan struct{}
	err  error
}

// startProcess starts a component. Only the main goroutine may call it: see init in main.go.
func startProcess(executable, name, log string, args []string, exited chan<- *process) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", name, err)
	}
	// The child has its own descriptor once it runs.
	defer out.Close()
	cmd := exec.Command(executable, append([]string{"component", name}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// The last resort, should the supervisor be killed: nothing outlives it.
		Pdeathsig: syscall.SIGKILL,
		// Ctrl-C in a terminal goes to the whole foreground group; the supervisor alone decides the order of stopping.
		Setpgid: true,
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &process{name: name, log: log, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
		exited <- p
	}()
	return p, nil
}

// stop asks the child to end, and ends it if it takes longer than patience.
func (p *process) stop(patience time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// failure tells how the child ended, with the end of its log: the reason is there, if anywhere.
func (p *process) failure() error {
	how := "with exit code 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("expected %s to run until told to stop, found it ended (%s); its log %s ends:\n%s", p.name, how, p.log, tail(p.log, 15))
}

// tail is the last lines of a file, from its last 16 KiB.
func tail(path string, lines int) string {
	const most = 16 << 10
	f, err := os.Open(path)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	defer f.Close()
	if _, err := f.Seek(-most, io.SeekEnd); err != nil && !errors.Is(err, syscall.EINVAL) {
		return "(" + err.Error() + ")"
	}
	content, err := io.ReadAll(f)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return lastLines(string(content), lines)
}

func lastLines(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}
