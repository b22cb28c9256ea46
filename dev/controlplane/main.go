// The command controlplane runs a real Kubernetes control plane on one machine, for development and tests: etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler from the Kubernetes sources, and a simulation of the
// kubelets of nodes that do not exist.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/component-base/version"
)

// The kernel sends a child's parent-death signal when the *thread* that forked it ends. Children are only ever started
// from the main goroutine, which stays on the main thread: that one lives as long as the process.
func init() { runtime.LockOSThread() }

func main() {
	// A component is not a subcommand in cobra's eyes: its flags are its own, and two of the real commands install
	// signal handlers as soon as they are constructed, so each is built in the one process that needs it.
	if len(os.Args) > 1 && os.Args[1] == "component" {
		os.Exit(runComponent(os.Args[2:]))
	}
	if err := newCommand().Execute(); err != nil {
		var usage usageError
		if errors.As(err, &usage) {
			fmt.Fprintf(os.Stderr, "controlplane: %v\nTry: controlplane --help\n", err)
			os.Exit(2)
		}
		fmt.Fprintf(os.Stderr, "controlplane: %v\n", err)
		os.Exit(1)
	}
}

// usageError is a mistake in the command line rather than a failure of what it asked for.
type usageError struct{ error }

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "controlplane",
		Short: "A real Kubernetes control plane on this machine, for development and tests",
		Long: `controlplane runs etcd, kube-apiserver, kube-controller-manager and kube-scheduler (` + gitVersion() + `), on loopback
only, with TLS and RBAC, and plays the kubelet of every Node that carries the annotation
` + annotationFake + `=` + fakeNode + `.

Start it, and wait for one line of JSON on stdout that says where it listens:

  controlplane run --data-dir /tmp/cp
  {"ready":true,"endpoint":"https://127.0.0.1:…","admin_kubeconfig":"/tmp/cp/admin.kubeconfig",…}

Then, from anywhere:

  kubectl --kubeconfig /tmp/cp/admin.kubeconfig get --raw /readyz
  controlplane kubeconfig --data-dir /tmp/cp --service-account kube-system/karpenter --out /tmp/karpenter.kubeconfig

It stops on SIGTERM, SIGINT, or (with --exit-with-stdin) when its stdin closes; no process outlives it.

What a simulated node understands (annotations):

  on a Node   ` + annotationFake + `: fake              its kubelet is simulated; remove it and the heartbeats stop
              ` + annotationNotReady + `: "true"   Ready is False (KubeletNotReady) for as long as it is there
  on a Pod    ` + annotationRunFor + `: 30s          its containers end with exit code 0 after that time
                                                    (unless restartPolicy is Always)
              ` + annotationTerminateAfter + `: 10s  once deleted, it takes that long to end, at most its grace period
              ` + annotationNotReady + `: "true"   it runs, and is not Ready`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newRunCommand(), newKubeconfigCommand(), &cobra.Command{
		Use:   "version",
		Short: "Print the version of Kubernetes it runs",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), gitVersion())
			return err
		},
	})
	return root
}

func newRunCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run --data-dir DIR",
		Short: "Run the control plane until told to stop",
		Long: `Run the control plane until SIGTERM, SIGINT or, with --exit-with-stdin, until stdin closes.

When everything answers (the API server's readyz, the kube-system namespace and its default ServiceAccount, the
controller manager, the scheduler), one line of JSON goes to stdout. Nothing else ever does.

The data directory keeps the certificates, the kubeconfigs, etcd's data and logs/<component>.log. Run again with the
same directory, it goes on with the same cluster, certificates and (if they are still free) ports.`,
		Example: "  controlplane run --data-dir \"$(mktemp -d)\" -v\n  controlplane run --data-dir /tmp/cp --exit-with-stdin --audit",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.stdin, o.stdout, o.stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			return run(o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dataDir, "data-dir", "", "directory for everything it writes; created if missing (required)")
	f.BoolVar(&o.exitWithStdin, "exit-with-stdin", false, "stop when stdin closes, so that it never outlives what started it")
	f.BoolVar(&o.audit, "audit", false, "write the API server's audit log (level Metadata) to <data-dir>/logs/audit.log")
	f.StringVar(&o.scheduler, "scheduler-config", "", "file with fields of a KubeSchedulerConfiguration (extenders, profiles, …) that replace its own")
	f.DurationVar(&o.readyTimeout, "ready-timeout", 2*time.Minute, "give up if it is not ready after this time")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say on stderr what it is doing")
	must(cmd.MarkFlagRequired("data-dir"))
	return cmd
}

func newKubeconfigCommand() *cobra.Command {
	var o tokenOptions
	cmd := &cobra.Command{
		Use:   "kubeconfig --data-dir DIR --service-account NAMESPACE/NAME --out FILE",
		Short: "Write a kubeconfig that acts as a ServiceAccount",
		Long: `Ask the running control plane for a token of a ServiceAccount (the TokenRequest API) and write a kubeconfig with it.
What uses that file has the rights that RBAC gives to the ServiceAccount, and no others.`,
		Example: "  controlplane kubeconfig --data-dir /tmp/cp --service-account kube-system/karpenter --out /tmp/karpenter.kubeconfig",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return writeServiceAccountKubeconfig(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.dataDir, "data-dir", "", "data directory of the running control plane (required)")
	f.StringVar(&o.serviceAccount, "service-account", "", "the ServiceAccount, as NAMESPACE/NAME (required)")
	f.DurationVar(&o.expiration, "expiration", 24*time.Hour, "how long the token is good for; at least 10m")
	f.StringVar(&o.out, "out", "", "file to write (required)")
	for _, name := range []string{"data-dir", "service-account", "out"} {
		must(cmd.MarkFlagRequired(name))
	}
	return cmd
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("expected flags only, found the argument %q", args[0])}
	}
	return nil
}

// must is for mistakes in this file alone, such as a required flag that was never declared.
func must(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "controlplane: a mistake in its own command line: %v\n", err)
		os.Exit(70)
	}
}

func gitVersion() string { return version.Get().GitVersion }
