package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

type runOptions struct {
	dataDir       string
	exitWithStdin bool
	audit         bool
	verbose       bool
	readyTimeout  time.Duration
	// scheduler is a file with fields of the scheduler's configuration; empty for none.
	scheduler string
	stdin     io.Reader
	stdout    io.Writer
	stderr    io.Writer
}

// ready is the one line on stdout.
type ready struct {
	Ready           bool   `json:"ready"`
	Endpoint        string `json:"endpoint"`
	AdminKubeconfig string `json:"admin_kubeconfig"`
	CAFile          string `json:"ca_file"`
	Version         string `json:"version"`
	PID             int    `json:"pid"`
}

// How long a component may take to stop before it is killed. The API server would wait for requests under way; those
// that matter here are over by then.
const stopPatience = 3 * time.Second

// errStopped says that somebody asked for the stop: not a failure.
var errStopped = errors.New("asked to stop")

// supervisor starts the components, watches them and stops them.
type supervisor struct {
	layout
	executable string
	started    time.Time
	say        func(format string, args ...any)
	stop       chan string
	exited     chan *process
	running    []*process
}

func run(o runOptions) error {
	dataDir, err := filepath.Abs(o.dataDir)
	if err != nil {
		return fmt.Errorf("making --data-dir absolute: %w", err)
	}
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program's own file, which the components run from: %w", err)
	}
	s := &supervisor{
		layout:     layout{dataDir: dataDir, audit: o.audit},
		executable: executable,
		started:    time.Now(),
		// One place for every signal source, so that none of them ever blocks.
		stop:   make(chan string, 4),
		exited: make(chan *process, 8),
	}
	s.say = func(format string, args ...any) {
		if o.verbose {
			fmt.Fprintf(o.stderr, "controlplane %7.3fs  %s\n", time.Since(s.started).Seconds(), fmt.Sprintf(format, args...))
		}
	}

	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() { s.stop <- (<-signals).String() }()
	if o.exitWithStdin {
		go func() {
			_, _ = io.Copy(io.Discard, o.stdin)
			s.stop <- "stdin closed"
		}()
	}

	if err := os.MkdirAll(s.path("logs"), 0o700); err != nil {
		return fmt.Errorf("creating --data-dir: %w", err)
	}
	lock, err := lockDataDir(s.path("lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	// Both stay until the components are gone, whatever happens in between.
	release, err := s.reservePorts()
	if err != nil {
		return err
	}
	defer release()
	defer s.stopAll()

	err = s.bringUp(o)
	if err == nil {
		s.say("ready at %s", s.endpoint())
		err = json.NewEncoder(o.stdout).Encode(ready{
			Ready: true, Endpoint: s.endpoint(), AdminKubeconfig: adminKubeconfig(s.dataDir), CAFile: s.keys.ca(),
			Version: gitVersion(), PID: os.Getpid(),
		})
		if err != nil {
			return fmt.Errorf("telling that it is ready: %w", err)
		}
		err = s.wait(nil)
	}
	if errors.Is(err, errStopped) {
		return nil
	}
	return err
}

// lockDataDir keeps two control planes from sharing a directory. The kernel lets go of it with the process.
func lockDataDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of --data-dir: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("expected --data-dir to be free, found a control plane running in it (%s: %w)", path, err)
	}
	return f, nil
}

// reservePorts takes the ports of the last run in this directory where it can, others where it cannot.
func (s *supervisor) reservePorts() (release func(), err error) {
	file := s.path("ports.json")
	if content, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(content, &s.ports); err != nil {
			return nil, fmt.Errorf("expected the ports of the last run in %s, found something else: %w", file, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the ports of the last run: %w", err)
	}
	var held []*portReservation
	release = func() {
		for _, r := range held {
			r.release()
		}
	}
	for _, port := range []*int{&s.ports.Etcd, &s.ports.EtcdPeer, &s.ports.APIServer, &s.ports.KCM, &s.ports.Scheduler} {
		r, err := reservePort(*port)
		if err != nil {
			release()
			return nil, err
		}
		*port = r.port
		held = append(held, r)
	}
	content, err := json.Marshal(s.ports)
	if err == nil {
		err = os.WriteFile(file, content, 0o600)
	}
	if err != nil {
		release()
		return nil, fmt.Errorf("noting the ports for the next run: %w", err)
	}
	return release, nil
}

// bringUp starts everything and returns once everything answers.
func (s *supervisor) bringUp(o runOptions) error {
	ctx, cancel := context.WithTimeout(context.Background(), o.readyTimeout)
	defer cancel()
	if err := s.writeFiles(o.scheduler); err != nil {
		return err
	}
	s.say("keys and kubeconfigs are written")

	client, err := s.httpClient()
	if err != nil {
		return err
	}
	// The API server keeps asking for etcd while it starts, so the two need not wait for each other.
	if err := s.start(componentEtcd, s.etcdFlags()); err != nil {
		return err
	}
	if err := s.start(componentAPIServer, s.apiServerFlags()); err != nil {
		return err
	}
	if err := s.waitFor(ctx, "the API server's readyz", answers(client, s.endpoint()+"/readyz")); err != nil {
		return err
	}
	if err := s.start(componentKCM, s.controllerManagerFlags()); err != nil {
		return err
	}
	if err := s.start(componentScheduler, s.schedulerFlags()); err != nil {
		return err
	}
	if err := s.start(componentSimulation, s.simulationFlags()); err != nil {
		return err
	}
	if err := s.waitFor(ctx, "the scheduler's readyz", answers(client, loopback(s.ports.Scheduler)+"/readyz")); err != nil {
		return err
	}
	if err := s.waitFor(ctx, "the controller manager's healthz", answers(client, loopback(s.ports.KCM)+"/healthz")); err != nil {
		return err
	}
	config, err := loadConfig(adminKubeconfig(s.dataDir))
	if err != nil {
		return err
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client of the API server: %w", err)
	}
	return s.waitFor(ctx, "the default ServiceAccount of kube-system", func(ctx context.Context) error {
		_, err := api.CoreV1().ServiceAccounts(metav1.NamespaceSystem).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

func (s *supervisor) writeFiles(scheduler string) (err error) {
	if s.keys, err = ensurePKI(s.path("pki"), s.started); err != nil {
		return err
	}
	for _, id := range []identity{identityAdmin, identityKCM, identityScheduler, identitySimulation} {
		if err := s.keys.writeKubeconfig(s.kubeconfig(id), s.endpoint(), id); err != nil {
			return err
		}
	}
	config, err := s.schedulerConfigText(scheduler)
	if err != nil {
		return err
	}
	for path, text := range map[string][]byte{s.schedulerConfig(): config, s.auditPolicy(): []byte(auditPolicy)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return fmt.Errorf("writing a configuration file: %w", err)
		}
	}
	return nil
}

func (s *supervisor) start(name string, flags []string) error {
	p, err := startProcess(s.executable, name, s.log(name), flags, s.exited)
	if err != nil {
		return err
	}
	s.running = append(s.running, p)
	s.say("started %s, process %d", name, p.cmd.Process.Pid)
	return nil
}

// wait returns when there is a reason to: told to stop, a component that ended, or next.
func (s *supervisor) wait(next <-chan time.Time) error {
	select {
	case why := <-s.stop:
		s.say("stopping: %s", why)
		return errStopped
	case p := <-s.exited:
		return p.failure()
	case <-next:
		return nil
	}
}

// waitFor asks until the answer is good.
func (s *supervisor) waitFor(ctx context.Context, what string, check func(context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := check(attempt)
		cancel()
		if err == nil {
			s.say("found %s", what)
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("expected %s, found after %s: %w (logs: %s)", what, time.Since(s.started).Round(time.Second), err, s.path("logs"))
		}
		if err := s.wait(time.After(25 * time.Millisecond)); err != nil {
			return err
		}
	}
}

// stopAll stops the components in the reverse order of their start: none loses what it stands on before it is gone.
func (s *supervisor) stopAll() {
	for i := len(s.running) - 1; i >= 0; i-- {
		p := s.running[i]
		p.stop(stopPatience)
		s.say("%s has stopped", p.name)
	}
	s.running = nil
}

// httpClient is for the health endpoints, all of which show the certificate of this control plane.
func (s *supervisor) httpClient() (*http.Client, error) {
	ca, err := os.ReadFile(s.keys.ca())
	if err != nil {
		return nil, fmt.Errorf("reading the authority's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("expected a certificate in %s, found none", s.keys.ca())
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}, nil
}

func answers(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("expected 200 from %s, found %s: %s", url, response.Status, body)
		}
		return nil
	}
}
