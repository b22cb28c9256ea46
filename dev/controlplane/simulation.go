package main

import (
	"context"
	"encoding/json"
	goflag "flag"
	"fmt"
	"os"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
)

// What the simulation reads on Nodes and Pods.
const (
	annotationFake           = "kwok.x-k8s.io/node"
	fakeNode                 = "fake"
	annotationNotReady       = "dev.karpenter-rs.dev/not-ready"
	annotationRunFor         = "dev.karpenter-rs.dev/run-for"
	annotationTerminateAfter = "dev.karpenter-rs.dev/terminate-after"
)

// The clock of the simulation: often enough that a node is seen within a moment, seldom enough that a thousand nodes
// cost next to nothing.
const (
	simulationStep = 200 * time.Millisecond
	heartbeatEvery = 10 * time.Second
	leaseSeconds   = 40
)

// simulation plays the kubelets of the nodes that carry the annotation, and whoever attaches their volumes. Of nodes it
// changes statuses and leases only: labels, taints and capacity are the business of whoever made the Node.
type simulation struct {
	client      kubernetes.Interface
	nodes       corelisters.NodeLister
	pods        corelisters.PodLister
	volumes     corelisters.PersistentVolumeLister
	attachments storagelisters.VolumeAttachmentLister
	beats       map[types.UID]time.Time
}

func runSimulationCommand(args []string) error {
	flags := goflag.NewFlagSet(componentSimulation, goflag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "credentials for the API server")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := untilSignalled()
	defer cancel()
	config, err := loadConfig(*kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 500, 1000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	s := &simulation{
		client:      client,
		nodes:       factory.Core().V1().Nodes().Lister(),
		pods:        factory.Core().V1().Pods().Lister(),
		volumes:     factory.Core().V1().PersistentVolumes().Lister(),
		attachments: factory.Storage().V1().VolumeAttachments().Lister(),
		beats:       map[types.UID]time.Time{},
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	ticker := time.NewTicker(simulationStep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			s.step(ctx, now)
			s.attach(ctx, now)
		}
	}
}

// step brings every simulated node and its pods one step further. What fails is tried again in the next step.
func (s *simulation) step(ctx context.Context, now time.Time) {
	nodes, err := s.nodes.List(labels.Everything())
	if err != nil {
		say("listing nodes", err)
		return
	}
	fake := map[string]*corev1.Node{}
	alive := map[types.UID]time.Time{}
	for _, node := range nodes {
		if node.Annotations[annotationFake] != fakeNode {
			continue
		}
		fake[node.Name] = node
		alive[node.UID] = s.beats[node.UID]
		if err := s.beat(ctx, node, alive, now); err != nil {
			say("heartbeat of "+node.Name, err)
		}
	}
	s.beats = alive
	pods, err := s.pods.List(labels.Everything())
	if err != nil {
		say("listing pods", err)
		return
	}
	for _, pod := range pods {
		node := fake[pod.Spec.NodeName]
		if node == nil {
			continue
		}
		if err := s.run(ctx, node, pod, now); err != nil {
			say("pod "+pod.Namespace+"/"+pod.Name, err)
		}
	}
}

func say(what string, err error) {
	if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
	}
}

// beat keeps the node's conditions and its lease fresh.
func (s *simulation) beat(ctx context.Context, node *corev1.Node, beats map[types.UID]time.Time, now time.Time) error {
	want := corev1.ConditionTrue
	if node.Annotations[annotationNotReady] == "true" {
		want = corev1.ConditionFalse
	}
	have := corev1.ConditionUnknown
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			have = condition.Status
		}
	}
	if have == want && now.Sub(beats[node.UID]) < heartbeatEvery {
		return nil
	}
	stamp := metav1.NewTime(now)
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason string) corev1.NodeCondition {
		since := stamp
		for _, known := range node.Status.Conditions {
			if known.Type == kind && known.Status == status {
				since = known.LastTransitionTime
			}
		}
		return corev1.NodeCondition{
			Type: kind, Status: status, Reason: reason, LastHeartbeatTime: stamp, LastTransitionTime: since,
		}
	}
	reason := "KubeletReady"
	if want == corev1.ConditionFalse {
		reason = "KubeletNotReady"
	}
	err := patchStatus(map[string]any{"conditions": []corev1.NodeCondition{
		condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory"),
		condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure"),
		condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID"),
		condition(corev1.NodeReady, want, reason),
	}}, func(patch []byte) error {
		_, err := s.client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		return err
	})
	if err != nil {
		return err
	}
	beats[node.UID] = now
	return s.renew(ctx, node, now)
}

func (s *simulation) renew(ctx context.Context, node *corev1.Node, now time.Time) error {
	leases := s.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	stamp := metav1.NewMicroTime(now)
	seconds := int32(leaseSeconds)
	lease, err := leases.Get(ctx, node.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: node.Name, OwnerReferences: []metav1.OwnerReference{owner}},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &node.Name, LeaseDurationSeconds: &seconds, RenewTime: &stamp},
		}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease = lease.DeepCopy()
	lease.Spec.RenewTime = &stamp
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}

// run starts a pod that was bound, ends one whose time has come and removes one that was deleted.
func (s *simulation) run(ctx context.Context, node *corev1.Node, pod *corev1.Pod, now time.Time) error {
	if pod.DeletionTimestamp != nil {
		return s.end(ctx, pod, now)
	}
	switch pod.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed:
		return nil
	case corev1.PodRunning:
		after, ok := duration(pod, annotationRunFor)
		if !ok || pod.Status.StartTime == nil || now.Sub(pod.Status.StartTime.Time) < after {
			return nil
		}
		return s.report(ctx, pod, map[string]any{"phase": corev1.PodSucceeded, "containerStatuses": statuses(pod, now, true)})
	}
	stamp := metav1.NewTime(now)
	ready := corev1.ConditionTrue
	if pod.Annotations[annotationNotReady] == "true" {
		ready = corev1.ConditionFalse
	}
	condition := func(kind corev1.PodConditionType, status corev1.ConditionStatus) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: stamp}
	}
	return s.report(ctx, pod, map[string]any{
		"phase": corev1.PodRunning, "hostIP": address(node), "podIP": podIP(pod), "startTime": stamp,
		"containerStatuses": statuses(pod, now, false),
		"conditions": []corev1.PodCondition{
			condition(corev1.PodInitialized, corev1.ConditionTrue),
			condition(corev1.PodReady, ready),
			condition(corev1.ContainersReady, ready),
		},
	})
}

// end removes a deleted pod once it has had the time it wants, at most its grace period: what its annotation says, or
// its longest preStop hook sleeps.
func (s *simulation) end(ctx context.Context, pod *corev1.Pod, now time.Time) error {
	grace := time.Duration(0)
	if pod.DeletionGracePeriodSeconds != nil {
		grace = time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
	}
	asked := pod.DeletionTimestamp.Add(-grace)
	after, _ := duration(pod, annotationTerminateAfter)
	for _, container := range pod.Spec.Containers {
		if hooks := container.Lifecycle; hooks != nil && hooks.PreStop != nil && hooks.PreStop.Sleep != nil {
			after = max(after, time.Duration(hooks.PreStop.Sleep.Seconds)*time.Second)
		}
	}
	if now.Sub(asked) < min(after, grace) {
		return nil
	}
	zero := int64(0)
	return s.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
}

func (s *simulation) report(ctx context.Context, pod *corev1.Pod, status map[string]any) error {
	return patchStatus(status, func(patch []byte) error {
		_, err := s.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		return err
	})
}

func patchStatus(status map[string]any, send func([]byte) error) error {
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return fmt.Errorf("writing a status: %w", err)
	}
	return send(patch)
}

func statuses(pod *corev1.Pod, now time.Time, ended bool) []corev1.ContainerStatus {
	all := make([]corev1.ContainerStatus, 0, len(pod.Spec.Containers))
	for _, container := range pod.Spec.Containers {
		started := !ended
		status := corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, Ready: started, Started: &started,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now)}},
		}
		if ended {
			status.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				Reason: "Completed", FinishedAt: metav1.NewTime(now),
			}}
		}
		all = append(all, status)
	}
	return all
}

func duration(pod *corev1.Pod, annotation string) (time.Duration, bool) {
	text, ok := pod.Annotations[annotation]
	if !ok {
		return 0, false
	}
	after, err := time.ParseDuration(text)
	return after, err == nil
}

func address(node *corev1.Node) string {
	for _, one := range node.Status.Addresses {
		if one.Type == corev1.NodeInternalIP {
			return one.Address
		}
	}
	return "10.0.0.1"
}

// podIP gives each pod an address of its own, from its UID.
func podIP(pod *corev1.Pod) string {
	sum := uint32(2166136261)
	for _, b := range []byte(pod.UID) {
		sum = (sum ^ uint32(b)) * 16777619
	}
	return fmt.Sprintf("10.%d.%d.%d", 128+sum>>24&63, sum>>16&255, 1+sum>>8&253)
}
