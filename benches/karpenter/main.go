// The command karpenter-peer runs the scheduler of Karpenter, as a library, on one input file and prints one line of
// JSON: how long it took, what it bought, and what that costs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/controllers/provisioning/scheduling"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	"sigs.k8s.io/karpenter/pkg/events"
	"sigs.k8s.io/karpenter/pkg/operator/injection"
	"sigs.k8s.io/karpenter/pkg/operator/logging"
	"sigs.k8s.io/karpenter/pkg/operator/options"
	"sigs.k8s.io/karpenter/pkg/utils/daemonset"
	"sigs.k8s.io/karpenter/pkg/utils/nodepool"
)

// result is the line that is printed; ../README.md says what each figure means.
type result struct {
	Seconds      float64 `json:"seconds"`
	SetupSeconds float64 `json:"setup_seconds"`
	Nodes        int     `json:"nodes"`
	USDPerHour   float64 `json:"usd_per_hour"`
	PeakMB       float64 `json:"peak_mb"`
	Unscheduled  int     `json:"unscheduled"`
	TypesMin     int     `json:"types_min"`
	TypesMedian  int     `json:"types_median"`
	TimedOut     bool    `json:"timed_out"`
}

func main() {
	path := flag.String("input", "", "the input file")
	limit := flag.Duration("limit", 0, "give up after this long; 0: never")
	workers := flag.Int("workers", 5, "goroutines that look at nodes at once; Karpenter's own benchmark has 5")
	flag.Parse()
	found, err := run(*path, *limit, *workers)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "karpenter-peer: %v\n", err)
		os.Exit(1)
	}
}

func run(path string, limit time.Duration, workers int) (*result, error) {
	in, err := readInput(path)
	if err != nil {
		return nil, err
	}
	log.SetLogger(logging.NopLogger)
	ctx, err := background(in)
	if err != nil {
		return nil, err
	}
	pods := in.pods()

	began := time.Now()
	scheduler, err := setUp(ctx, in, pods, workers)
	if err != nil {
		return nil, err
	}
	found := &result{SetupSeconds: time.Since(began).Seconds()}

	solving := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		solving, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	began = time.Now()
	plan, err := scheduler.Solve(solving, pods)
	found.Seconds = time.Since(began).Seconds()
	found.TimedOut = errors.Is(err, context.DeadlineExceeded)
	if err != nil && !found.TimedOut {
		return nil, err
	}
	if found.PeakMB, err = peakMB(); err != nil {
		return nil, err
	}
	return found, found.read(plan.TruncateInstanceTypes(ctx, scheduling.MaxInstanceTypes), len(pods))
}

// background carries the settings of a default installation.
func background(in *input) (context.Context, error) {
	flags := &options.FlagSet{FlagSet: flag.NewFlagSet("karpenter", flag.ContinueOnError)}
	settings := &options.Options{}
	settings.AddFlags(flags)
	err := settings.Parse(flags, "--preference-policy", in.PreferencePolicy, "--min-values-policy", in.MinValuesPolicy)
	if err != nil {
		return nil, err
	}
	return options.ToContext(injection.WithControllerName(context.Background(), "provisioner"), settings), nil
}

func setUp(ctx context.Context, in *input, pods []*corev1.Pod, workers int) (*scheduling.Scheduler, error) {
	settings := options.FromContext(ctx)
	choices := []scheduling.Options{
		scheduling.DisableReservedCapacityFallback,
		scheduling.NumConcurrentReconciles(workers),
		scheduling.MinValuesPolicy(settings.MinValuesPolicy),
	}
	if settings.PreferencePolicy == options.PreferencePolicyIgnore {
		choices = append(choices, scheduling.IgnorePreferences)
	}
	rows := catalogue(in.InstanceTypes)
	nodepool.OrderByWeight(in.NodePools)
	byPool := map[string][]*cloudprovider.InstanceType{}
	for _, pool := range in.NodePools {
		byPool[pool.Name] = rows
	}
	var daemons []*corev1.Pod
	for _, set := range in.DaemonSets {
		daemons = append(daemons, daemonset.PodForDaemonSet(&set))
	}
	client := fakeclient.NewClientBuilder().Build()
	cluster := state.NewCluster(clock.RealClock{}, client, cloud{rows})
	topology, err := scheduling.NewTopology(ctx, client, cluster, nil, in.NodePools, byPool, pods, choices...)
	if err != nil {
		return nil, fmt.Errorf("topology: %w", err)
	}
	recorder := events.NewRecorder(&record.FakeRecorder{})
	return scheduling.NewScheduler(ctx, client, in.NodePools, cluster, nil, topology, byPool, daemons, recorder,
		clock.RealClock{}, nil, nil, choices...), nil
}

// read takes the figures from a plan: a node costs what its cheapest offering costs.
func (r *result) read(plan scheduling.Results, pods int) error {
	var kept []int
	placed := 0
	for _, claim := range plan.NewNodeClaims {
		price := cheapest(claim)
		if math.IsInf(price, 1) {
			return fmt.Errorf("a node of %d pods has no offering", len(claim.Pods))
		}
		placed += len(claim.Pods)
		r.USDPerHour += price
		kept = append(kept, len(claim.InstanceTypeOptions))
	}
	r.Nodes = len(kept)
	r.Unscheduled = pods - placed
	if len(kept) > 0 {
		slices.Sort(kept)
		r.TypesMin, r.TypesMedian = kept[0], kept[len(kept)/2]
	}
	return nil
}

func cheapest(claim *scheduling.NodeClaim) float64 {
	price := math.Inf(1)
	for _, each := range claim.InstanceTypeOptions {
		for _, offering := range each.Offerings.Available().Compatible(claim.Requirements) {
			price = min(price, offering.Price)
		}
	}
	return price
}

// peakMB is the most memory this process ever held.
func peakMB() (float64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kilobytes float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kilobytes); n == 1 {
			return kilobytes * 1024 / 1e6, nil
		}
	}
	return 0, errors.New("/proc/self/status: found no VmHWM")
}
