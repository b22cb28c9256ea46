package main

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func TestPodsHaveTheUIDsOfTheOtherSide(t *testing.T) {
	in := &input{Pods: []podGroup{{Count: 1}, {Count: 2}}}
	expected := []types.UID{
		"e220a839-7b1d-cdaf-6e78-9e6aa1b965f4",
		"06c45d18-8009-454f-f88b-b8a8724c81ec",
		"1b39896a-51a8-749b-53cb-9f0c747ea2ea",
	}
	pods := in.pods()
	if len(pods) != len(expected) {
		t.Fatalf("found %d pods, expected %d", len(pods), len(expected))
	}
	for i, pod := range pods {
		if pod.UID != expected[i] {
			t.Errorf("pod %d (%s): found UID %s, expected %s", i, pod.Name, pod.UID, expected[i])
		}
	}
}
