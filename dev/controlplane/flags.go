package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// layout is where everything of one control plane is: its files below the data directory, its ports on 127.0.0.1.
type layout struct {
	dataDir string
	keys    pki
	ports   ports
	audit   bool
}

// ports are kept across runs, so that kubeconfigs handed out earlier still lead somewhere.
type ports struct {
	Etcd      int `json:"etcd"`
	EtcdPeer  int `json:"etcdPeer"`
	APIServer int `json:"apiServer"`
	KCM       int `json:"kubeControllerManager"`
	Scheduler int `json:"kubeScheduler"`
}

func loopback(port int) string { return "https://127.0.0.1:" + strconv.Itoa(port) }

func (l layout) path(elements ...string) string {
	return filepath.Join(append([]string{l.dataDir}, elements...)...)
}
func (l layout) log(component string) string   { return l.path("logs", component+".log") }
func (l layout) kubeconfig(id identity) string { return l.path(id.file + ".kubeconfig") }
func (l layout) endpoint() string              { return loopback(l.ports.APIServer) }
func (l layout) schedulerConfig() string       { return l.path("kube-scheduler.yaml") }
func (l layout) auditPolicy() string           { return l.path("audit-policy.yaml") }
func flag(name, value string) string           { return "--" + name + "=" + value }
func flagInt(name string, value int) string    { return flag(name, strconv.Itoa(value)) }

// servingFlags are for the port of one component, which the supervisor already holds (see ports.go), with a certificate
// that the health checks can verify.
func (l layout) servingFlags(port int) []string {
	return []string{
		flag("bind-address", "127.0.0.1"), flagInt("secure-port", port), flag("permit-port-sharing", "true"),
		flag("tls-cert-file", l.keys.cert("server")), flag("tls-private-key-file", l.keys.key("server")),
	}
}

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

func (l layout) apiServerFlags() []string {
	flags := append(l.servingFlags(l.ports.APIServer),
		flag("etcd-servers", loopback(l.ports.Etcd)),
		flag("etcd-cafile", l.keys.ca()),
		flag("etcd-certfile", l.keys.cert(identityEtcdClient.file)),
		flag("etcd-keyfile", l.keys.key(identityEtcdClient.file)),
		flag("client-ca-file", l.keys.ca()),
		flag("authorization-mode", "Node,RBAC"),
		flag("enable-admission-plugins", "NodeRestriction"),
		flag("allow-privileged", "true"),
		flag("service-cluster-ip-range", serviceRange),
		flag("service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
		flag("service-account-key-file", l.keys.serviceAccountPublicKey()),
		flag("service-account-signing-key-file", l.keys.serviceAccountKey()),
		// Without an address it looks for one on the machine's interfaces, and there may be none but loopback; that one
		// in turn may not stand in the endpoints of the kubernetes Service, so nobody writes them.
		flag("advertise-address", "127.0.0.1"),
		flag("endpoint-reconciler-type", "none"),
		flag("profiling", "false"),
	)
	if l.audit {
		flags = append(flags, flag("audit-policy-file", l.auditPolicy()), flag("audit-log-path", l.log("audit")))
	}
	return flags
}

// kubeClientFlags let a component talk to the API server, and let its own endpoint ask who is asking.
func kubeClientFlags(kubeconfig string) []string {
	return []string{
		flag("kubeconfig", kubeconfig),
		flag("authentication-kubeconfig", kubeconfig),
		flag("authorization-kubeconfig", kubeconfig),
		// Nobody sets up the extension API server's certificates here.
		flag("authentication-tolerate-lookup-failure", "true"),
		flag("leader-elect", "false"),
		flag("profiling", "false"),
	}
}

func (l layout) controllerManagerFlags() []string {
	flags := append(l.servingFlags(l.ports.KCM), kubeClientFlags(l.kubeconfig(identityKCM))...)
	return append(flags,
		flag("kube-api-qps", "200"),
		flag("kube-api-burst", "400"),
		flag("controllers", "*"),
		// As in a real cluster, every controller acts as its own ServiceAccount: RBAC gives the shared identity too little.
		flag("use-service-account-credentials", "true"),
		flag("service-account-private-key-file", l.keys.serviceAccountKey()),
		flag("root-ca-file", l.keys.ca()),
		flag("cluster-signing-cert-file", l.keys.ca()),
		flag("cluster-signing-key-file", l.keys.key("ca")),
		// How often node health is looked at. How long a silent node is trusted stays as in production.
		flag("node-monitor-period", "1s"),
	)
}

func (l layout) schedulerFlags() []string {
	// With --config the kubeconfig and the rates come from the file, and the flags of the same meaning are ignored.
	return append(l.servingFlags(l.ports.Scheduler),
		flag("config", l.schedulerConfig()),
		flag("authentication-kubeconfig", l.kubeconfig(identityScheduler)),
		flag("authorization-kubeconfig", l.kubeconfig(identityScheduler)),
		flag("authentication-tolerate-lookup-failure", "true"),
	)
}

// schedulerConfigText is what the scheduler needs here; whatever stands in a file of the user's goes before it, field by
// field of the top level.
func (l layout) schedulerConfigText(file string) ([]byte, error) {
	config := map[string]any{}
	if err := yaml.Unmarshal([]byte(l.schedulerDefaults()), &config); err != nil {
		return nil, fmt.Errorf("reading the scheduler's own configuration: %w", err)
	}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading --scheduler-config: %w", err)
		}
		wanted := map[string]any{}
		if err := yaml.Unmarshal(text, &wanted); err != nil {
			return nil, fmt.Errorf("expected fields of a KubeSchedulerConfiguration in %s, found something else: %w", file, err)
		}
		maps.Copy(config, wanted)
	}
	return yaml.Marshal(config)
}

// schedulerDefaults keeps the back-off of pods that did not fit at one second: by default it grows to ten, and a test
// would wait that long for a pod whose node has been there all the time.
func (l layout) schedulerDefaults() string {
	return strings.Join([]string{
		"apiVersion: kubescheduler.config.k8s.io/v1",
		"kind: KubeSchedulerConfiguration",
		"clientConnection:",
		"  kubeconfig: " + strconv.Quote(l.kubeconfig(identityScheduler)),
		"  qps: 200",
		"  burst: 400",
		"leaderElection:",
		"  leaderElect: false",
		"enableProfiling: false",
		"podInitialBackoffSeconds: 1",
		"podMaxBackoffSeconds: 1",
		"",
	}, "\n")
}

func (l layout) etcdFlags() []string {
	return []string{
		flag("data-dir", l.path("etcd")),
		flag("keys", l.keys.dir),
		flagInt("port", l.ports.Etcd),
		flagInt("peer-port", l.ports.EtcdPeer),
	}
}

func (l layout) simulationFlags() []string {
	return []string{flag("kubeconfig", l.kubeconfig(identitySimulation))}
}
