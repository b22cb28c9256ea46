package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// input is the file both schedulers read; ../README.md describes it.
type input struct {
	Name             string             `json:"name"`
	PreferencePolicy string             `json:"preference_policy"`
	MinValuesPolicy  string             `json:"min_values_policy"`
	InstanceTypes    []instanceType     `json:"instance_types"`
	NodePools        []*v1.NodePool     `json:"node_pools"`
	DaemonSets       []appsv1.DaemonSet `json:"daemonsets"`
	Pods             []podGroup         `json:"pods"`
}

type instanceType struct {
	Name         string              `json:"name"`
	Requirements map[string][]string `json:"requirements"`
	Capacity     corev1.ResourceList `json:"capacity"`
	Allocatable  corev1.ResourceList `json:"allocatable"`
	Offerings    []offering          `json:"offerings"`
}

type offering struct {
	Zone         string  `json:"zone"`
	ZoneID       string  `json:"zone_id"`
	CapacityType string  `json:"capacity_type"`
	Price        float64 `json:"price"`
	Available    bool    `json:"available"`
}

type podGroup struct {
	Template corev1.Pod `json:"template"`
	Count    int        `json:"count"`
}

func readInput(path string) (*input, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	decoder := json.NewDecoder(file)
	decoder.DisallowUnknownFields()
	in := &input{}
	if err := decoder.Decode(in); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return in, nil
}

// pods expands the groups. Names and UIDs are the same on both sides: both schedulers order equal pods by UID.
func (in *input) pods() []*corev1.Pod {
	created := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	var all []*corev1.Pod
	for _, group := range in.Pods {
		for range group.Count {
			index := len(all)
			pod := group.Template.DeepCopy()
			pod.Name = fmt.Sprintf("pod-%05d", index)
			pod.UID = podUID(uint64(index))
			pod.CreationTimestamp = created
			all = append(all, pod)
		}
	}
	return all
}

// podUID is two steps of SplitMix64 in the form of a UUID, so that pods that are alike do not come in the file's order.
func podUID(index uint64) types.UID {
	high, low := splitMix(2*index+1), splitMix(2*index+2)
	part, node := low>>48, low&0xffff_ffff_ffff
	return types.UID(fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", high>>32, high>>16&0xffff, high&0xffff, part, node))
}

func splitMix(step uint64) uint64 {
	z := step * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
