//! What an EC2NodeClass's selectors ask for.

use aws_sdk_ec2::types::{self as ec2, Filter};
use karpenter_aws::call::{Filters, ImageQuery, ReservationQuery};
use karpenter_aws::report::{
    CallError, CapacityReservation, Cluster, Image, Images, PlacementGroup, SecurityGroup, Subnet,
};

use crate::{Wire, ec2_filters, ec2_tags, error, time};

impl Wire {
    pub(crate) async fn cluster(&self, name: &str) -> Result<Cluster, CallError> {
        let answer = self.eks.describe_cluster().name(name).send().await.map_err(error::of("DescribeCluster"))?;
        let cluster = answer
            .cluster
            .ok_or_else(|| error::local("DescribeCluster", "ResourceNotFound", format!("no cluster {name:?}")))?;
        let network = cluster.kubernetes_network_config;
        Ok(Cluster {
            arn: cluster.arn.unwrap_or_default(),
            endpoint: cluster.endpoint.unwrap_or_default(),
            certificate_authority: cluster.certificate_authority.and_then(|ca| ca.data).unwrap_or_default(),
            service_ipv4_cidr: network.as_ref().and_then(|n| n.service_ipv4_cidr.clone()),
            service_ipv6_cidr: network.and_then(|n| n.service_ipv6_cidr),
            version: cluster.version.unwrap_or_default(),
            dns: None,
        })
    }

    pub(crate) async fn subnets(&self, queries: Vec<Filters>) -> Result<Vec<Subnet>, CallError> {
        let mut all = Vec::new();
        for query in queries {
            let mut pages = self.ec2.describe_subnets().set_filters(ec2_filters(query)).into_paginator().items().send();
            while let Some(subnet) = pages.next().await {
                let subnet = subnet.map_err(error::of("DescribeSubnets"))?;
                let Some(id) = subnet.subnet_id else { continue };
                all.push(Subnet {
                    id,
                    zone: subnet.availability_zone.unwrap_or_default(),
                    zone_id: subnet.availability_zone_id.unwrap_or_default(),
                    available_addresses: i64::from(subnet.available_ip_address_count.unwrap_or(0)),
                    tags: ec2_tags(subnet.tags),
                });
            }
        }
        Ok(all)
    }

    pub(crate) async fn security_groups(&self, queries: Vec<Filters>) -> Result<Vec<SecurityGroup>, CallError> {
        let mut all = Vec::new();
        for query in queries {
            let request = self.ec2.describe_security_groups().set_filters(ec2_filters(query));
            let mut pages = request.into_paginator().items().send();
            while let Some(group) = pages.next().await {
                let group = group.map_err(error::of("DescribeSecurityGroups"))?;
                let Some(id) = group.group_id else { continue };
                all.push(SecurityGroup { id, name: group.group_name.unwrap_or_default(), tags: ec2_tags(group.tags) });
            }
        }
        Ok(all)
    }

    /// The group by id or name, if it can take instances in.
    pub(crate) async fn placement_group(
        &self,
        id: Option<String>,
        name: Option<String>,
    ) -> Result<Option<PlacementGroup>, CallError> {
        let request = self.ec2.describe_placement_groups();
        let request = request.set_group_ids(id.map(|id| vec![id])).set_group_names(name.map(|name| vec![name]));
        let answer = match request.send().await.map_err(error::of("DescribePlacementGroups")) {
            Ok(answer) => answer,
            Err(failed) if failed.code.starts_with("InvalidPlacementGroup") => return Ok(None),
            Err(failed) => return Err(failed),
        };
        let available = |group: &ec2::PlacementGroup| group.state == Some(ec2::PlacementGroupState::Available);
        Ok(answer.placement_groups.unwrap_or_default().into_iter().find(available).map(|group| PlacementGroup {
            id: group.group_id.unwrap_or_default(),
            name: group.group_name.unwrap_or_default(),
            strategy: group.strategy.map(|s| s.as_str().to_owned()).unwrap_or_default(),
            partitions: group.partition_count,
            spread_level: group.spread_level.map(|level| level.as_str().to_owned()).unwrap_or_default(),
        }))
    }

    pub(crate) async fn reservations(
        &self,
        queries: Vec<ReservationQuery>,
    ) -> Result<Vec<CapacityReservation>, CallError> {
        let mut all = Vec::new();
        for ReservationQuery { id, filters } in queries {
            let request = self.ec2.describe_capacity_reservations().set_filters(ec2_filters(filters));
            let request = request.set_capacity_reservation_ids(id.map(|id| vec![id]));
            let mut pages = request.into_paginator().items().send();
            while let Some(found) = pages.next().await {
                match found.map_err(error::of("DescribeCapacityReservations")) {
                    Ok(found) => all.extend(reservation(found)),
                    // An id that is not there is an absence, not an error.
                    Err(failed) if failed.code.starts_with("InvalidCapacityReservationId") => break,
                    Err(failed) => return Err(failed),
                }
            }
        }
        Ok(all)
    }

    pub(crate) async fn images(&self, parameters: &[String], queries: Vec<ImageQuery>) -> Result<Images, CallError> {
        let mut found = Images::default();
        // One by one: the policy that a controller of this kind is given allows GetParameter, not GetParameters.
        for name in parameters {
            match self.ssm.get_parameter().name(name).send().await.map_err(error::of("GetParameter")) {
                Ok(answer) => {
                    let value = answer.parameter.and_then(|parameter| parameter.value);
                    found.parameters.extend(value.map(|id| (name.clone(), id)));
                }
                Err(failed) if failed.code == "ParameterNotFound" => {}
                Err(failed) => return Err(failed),
            }
        }
        let ids: Vec<String> = found.parameters.values().cloned().collect();
        let filters = Filters::from([("state".to_owned(), vec!["available".to_owned()])]);
        let named = (!ids.is_empty()).then(|| ImageQuery { ids, filters, ..ImageQuery::default() });
        for query in named.into_iter().chain(queries) {
            found.images.extend(self.describe_images(query).await?);
        }
        found.images.sort_by(|a, b| a.id.cmp(&b.id));
        found.images.dedup_by(|a, b| a.id == b.id);
        Ok(found)
    }

    async fn describe_images(&self, query: ImageQuery) -> Result<Vec<Image>, CallError> {
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        // Ids as a filter: an id that is not there is then an absence, not an error.
        let by_id = some(query.ids).map(|ids| Filter::builder().name("image-id").set_values(Some(ids)).build());
        let filters: Vec<Filter> = ec2_filters(query.filters).into_iter().flatten().chain(by_id).collect();
        let request = self
            .ec2
            .describe_images()
            .set_owners(some(query.owners))
            .include_deprecated(true)
            .set_filters((!filters.is_empty()).then_some(filters));
        let mut pages = request.into_paginator().items().send();
        let mut all = Vec::new();
        while let Some(image) = pages.next().await {
            let image = image.map_err(error::of("DescribeImages"))?;
            let Some(id) = image.image_id else { continue };
            let at = |text: Option<String>| text.and_then(|text| text.parse().ok());
            all.push(Image {
                id,
                name: image.name.unwrap_or_default(),
                architecture: image.architecture.map(|a| a.as_str().to_owned()).unwrap_or_default(),
                created: at(image.creation_date),
                deprecated: at(image.deprecation_time),
                owner: image.owner_id.unwrap_or_default(),
                tags: ec2_tags(image.tags),
            });
        }
        Ok(all)
    }
}

fn reservation(found: ec2::CapacityReservation) -> Option<CapacityReservation> {
    let word = |known: Option<&str>| known.unwrap_or_default().to_owned();
    Some(CapacityReservation {
        id: found.capacity_reservation_id?,
        instance_type: found.instance_type.unwrap_or_default(),
        zone: found.availability_zone.unwrap_or_default(),
        owner: found.owner_id.unwrap_or_default(),
        match_criteria: word(found.instance_match_criteria.as_ref().map(ec2::InstanceMatchCriteria::as_str)),
        kind: found.reservation_type.map_or_else(|| "default".to_owned(), |kind| kind.as_str().to_owned()),
        interruptible: found.interruptible.unwrap_or(false),
        ends: time(found.end_date),
        available: i64::from(found.available_instance_count.unwrap_or(0)),
        total: i64::from(found.total_instance_count.unwrap_or(0)),
    })
}
