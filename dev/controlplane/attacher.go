package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// How long a PersistentVolume takes to be detached.
const annotationDetachAfter = "dev.karpenter-rs.dev/detach-after"

// Held by whoever attaches volumes, until they are detached.
const attacherFinalizer = "external-attacher/dev-karpenter-rs-dev"

// attach plays the part of CSI drivers that runs beside them: it does what the attach-detach controller asks for in
// VolumeAttachments, at once, and detaches as slowly as the volume says.
func (s *simulation) attach(ctx context.Context, now time.Time) {
	all, err := s.attachments.List(labels.Everything())
	if err != nil {
		say("listing VolumeAttachments", err)
		return
	}
	for _, attachment := range all {
		if err := s.settle(ctx, attachment, now); err != nil {
			say("VolumeAttachment "+attachment.Name, err)
		}
	}
}

func (s *simulation) settle(ctx context.Context, attachment *storagev1.VolumeAttachment, now time.Time) error {
	held := slices.Contains(attachment.Finalizers, attacherFinalizer)
	switch {
	case attachment.DeletionTimestamp != nil:
		if !held || now.Sub(attachment.DeletionTimestamp.Time) < s.detachAfter(attachment) {
			return nil
		}
		return s.hold(ctx, attachment, slices.DeleteFunc(slices.Clone(attachment.Finalizers), func(one string) bool {
			return one == attacherFinalizer
		}))
	case !held:
		return s.hold(ctx, attachment, append(slices.Clone(attachment.Finalizers), attacherFinalizer))
	case !attachment.Status.Attached:
		return patchStatus(map[string]any{"attached": true}, func(patch []byte) error {
			_, err := s.client.StorageV1().VolumeAttachments().Patch(ctx, attachment.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
			return err
		})
	}
	return nil
}

func (s *simulation) hold(ctx context.Context, attachment *storagev1.VolumeAttachment, finalizers []string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"finalizers": finalizers, "resourceVersion": attachment.ResourceVersion,
	}})
	if err != nil {
		return fmt.Errorf("writing finalizers: %w", err)
	}
	_, err = s.client.StorageV1().VolumeAttachments().Patch(ctx, attachment.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (s *simulation) detachAfter(attachment *storagev1.VolumeAttachment) time.Duration {
	name := attachment.Spec.Source.PersistentVolumeName
	if name == nil {
		return 0
	}
	volume, err := s.volumes.Get(*name)
	if err != nil {
		return 0
	}
	after, err := time.ParseDuration(volume.Annotations[annotationDetachAfter])
	if err != nil {
		return 0
	}
	return after
}
