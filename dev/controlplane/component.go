package main

import (
	"context"
	goflag "flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// The components, each a process of its own: one that crashes or leaks takes no other with it, and the real commands,
// which share process-wide flags, metrics and signal handlers, never meet.
const (
	componentEtcd       = "etcd"
	componentAPIServer  = "kube-apiserver"
	componentKCM        = "kube-controller-manager"
	componentScheduler  = "kube-scheduler"
	componentSimulation = "simulation"
)

func runComponent(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "controlplane component: expected the name of a component, found nothing")
		return 2
	}
	name, args := args[0], args[1:]
	switch name {
	case componentEtcd:
		return exitCode(name, runEtcd(args))
	case componentSimulation:
		return exitCode(name, runSimulationCommand(args))
	case componentAPIServer:
		return runCobra(apiserver.NewAPIServerCommand, args)
	case componentKCM:
		return runCobra(controllermanager.NewControllerManagerCommand, args)
	case componentScheduler:
		return runCobra(func() *cobra.Command { return scheduler.NewSchedulerCommand() }, args)
	}
	fmt.Fprintf(os.Stderr, "controlplane component: expected %s, %s, %s, %s or %s, found %q\n",
		componentEtcd, componentAPIServer, componentKCM, componentScheduler, componentSimulation, name)
	return 2
}

func runCobra(build func() *cobra.Command, args []string) int {
	cmd := build()
	cmd.SetArgs(args)
	return cli.Run(cmd)
}

func exitCode(name string, err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// untilSignalled ends when the process is asked to stop.
func untilSignalled() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
}

func runEtcd(args []string) error {
	flags := goflag.NewFlagSet(componentEtcd, goflag.ContinueOnError)
	dataDir := flags.String("data-dir", "", "directory for the data")
	keys := pki{}
	flags.StringVar(&keys.dir, "keys", "", "directory of keys and certificates")
	port := flags.Int("port", 0, "port for clients")
	peerPort := flags.Int("peer-port", 0, "port for peers, of which there are none")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := untilSignalled()
	defer cancel()

	config, err := etcdConfig(*dataDir, keys, *port, *peerPort)
	if err != nil {
		return err
	}
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("starting: %w", err)
	}
	defer etcd.Close()
	select {
	case <-etcd.Server.ReadyNotify():
	case <-etcd.Server.StopNotify():
		return fmt.Errorf("expected it to become ready, found it stopped")
	case <-time.After(time.Minute):
		return fmt.Errorf("expected it to become ready within a minute, found it still starting")
	case <-ctx.Done():
		return nil
	}
	select {
	case err := <-etcd.Err():
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
		return nil
	}
}

func etcdConfig(dataDir string, keys pki, port, peerPort int) (*embed.Config, error) {
	clients, err := url.Parse(loopback(port))
	if err != nil {
		return nil, fmt.Errorf("making the address for clients: %w", err)
	}
	peers, err := url.Parse(loopback(peerPort))
	if err != nil {
		return nil, fmt.Errorf("making the address for peers: %w", err)
	}
	config := embed.NewConfig()
	config.Name = "controlplane"
	config.Dir = dataDir
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*clients}, []url.URL{*clients}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peers}, []url.URL{*peers}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.ClientTLSInfo = transport.TLSInfo{
		CertFile: keys.cert("server"), KeyFile: keys.key("server"), TrustedCAFile: keys.ca(), ClientCertAuth: true,
	}
	config.PeerTLSInfo = config.ClientTLSInfo
	// The ports are held by the supervisor; see ports.go.
	config.SocketOpts = transport.SocketOpts{ReusePort: true}
	// What a power cut would lose is of no use to anybody here, and syncing costs more than all the rest.
	config.UnsafeNoFsync = true
	// It is alone, so it need not wait long to find out that nobody else wants to lead.
	config.TickMs, config.ElectionMs = 10, 100
	config.QuotaBackendBytes = 8 << 30
	config.LogLevel = "warn"
	config.LogOutputs = []string{"stderr"}
	return config, nil
}
