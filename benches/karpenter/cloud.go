package main

import (
	"context"
	"errors"

	"github.com/awslabs/operatorpkg/status"
	corev1 "k8s.io/api/core/v1"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/resources"
)

const zoneIDLabel = "topology.k8s.aws/zone-id"

// catalogue turns the file's rows into Karpenter's.
func catalogue(rows []instanceType) []*cloudprovider.InstanceType {
	all := make([]*cloudprovider.InstanceType, 0, len(rows))
	for _, row := range rows {
		requirements := scheduling.NewRequirements()
		for key, values := range row.Requirements {
			// A provider registers the labels of its types as well known.
			v1.WellKnownLabels.Insert(key)
			operator := corev1.NodeSelectorOpIn
			if len(values) == 0 {
				operator = corev1.NodeSelectorOpDoesNotExist
			}
			requirements.Add(scheduling.NewRequirement(key, operator, values...))
		}
		offerings := make(cloudprovider.Offerings, 0, len(row.Offerings))
		for _, each := range row.Offerings {
			labels := map[string]string{
				v1.CapacityTypeLabelKey:  each.CapacityType,
				corev1.LabelTopologyZone: each.Zone,
			}
			if each.ZoneID != "" {
				labels[zoneIDLabel] = each.ZoneID
			}
			offerings = append(offerings, &cloudprovider.Offering{
				Requirements: scheduling.NewLabelRequirements(labels),
				Price:        each.Price,
				Available:    each.Available,
			})
		}
		all = append(all, &cloudprovider.InstanceType{
			Name:         row.Name,
			Requirements: requirements,
			Offerings:    offerings,
			Capacity:     row.Capacity,
			Overhead: &cloudprovider.InstanceTypeOverhead{
				KubeReserved: resources.Subtract(row.Capacity, row.Allocatable),
			},
		})
	}
	return all
}

var errNotHere = errors.New("this cloud only lists instance types")

// cloud lists instance types and can do nothing else: no scheduling simulation needs more.
type cloud struct{ types []*cloudprovider.InstanceType }

func (c cloud) GetInstanceTypes(context.Context, *v1.NodePool) ([]*cloudprovider.InstanceType, error) {
	return c.types, nil
}

func (cloud) Create(context.Context, *v1.NodeClaim) (*v1.NodeClaim, error) { return nil, errNotHere }
func (cloud) Delete(context.Context, *v1.NodeClaim) error                  { return errNotHere }
func (cloud) Get(context.Context, string) (*v1.NodeClaim, error)           { return nil, errNotHere }
func (cloud) List(context.Context) ([]*v1.NodeClaim, error)                { return nil, nil }
func (cloud) RepairPolicies() []cloudprovider.RepairPolicy                 { return nil }
func (cloud) Name() string                                                 { return "fixed" }
func (cloud) GetSupportedNodeClasses() []status.Object                     { return nil }
func (cloud) IsDrifted(context.Context, *v1.NodeClaim) (cloudprovider.DriftReason, error) {
	return "", errNotHere
}
