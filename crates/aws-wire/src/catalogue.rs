//! Instance types, where they are offered, and what they cost.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{self as ec2, Filter, LocationType};
use aws_sdk_pricing::types::{Filter as PriceFilter, FilterType};
use karpenter_aws::report::{Accelerator, CallError, Gpu, InstanceTypeInfo, NetworkCard, NetworkInfo};
use serde_json::Value;

use crate::{Wire, error};

impl Wire {
    /// A page has a hundred types and names the next one: kinds of types are asked for side by side.
    pub(crate) async fn instance_types(&self) -> Result<Vec<InstanceTypeInfo>, CallError> {
        let (zones, virtual_x86, metal_x86, virtual_arm, metal_arm) = tokio::try_join!(
            self.zones_by_type(),
            self.types_of("x86_64", false),
            self.types_of("x86_64", true),
            self.types_of("arm64", false),
            self.types_of("arm64", true),
        )?;
        let mut zones = zones;
        let found = [virtual_x86, metal_x86, virtual_arm, metal_arm].into_iter().flatten();
        let named = found.filter_map(|info| Some((info.instance_type.as_ref()?.as_str().to_owned(), info)));
        let mut all: Vec<InstanceTypeInfo> =
            named.map(|(name, info)| told(name.clone(), zones.remove(&name).unwrap_or_default(), info)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    async fn types_of(&self, architecture: &str, metal: bool) -> Result<Vec<ec2::InstanceTypeInfo>, CallError> {
        let filter = |name: &str, value: &str| Filter::builder().name(name).values(value).build();
        let mut pages = self
            .ec2
            .describe_instance_types()
            .filters(filter("supported-virtualization-type", "hvm"))
            .filters(filter("processor-info.supported-architecture", architecture))
            .filters(filter("bare-metal", &metal.to_string()))
            .max_results(100)
            .into_paginator()
            .items()
            .send();
        let mut all = Vec::new();
        while let Some(info) = pages.next().await {
            all.push(info.map_err(error::of("DescribeInstanceTypes"))?);
        }
        Ok(all)
    }

    async fn zones_by_type(&self) -> Result<BTreeMap<String, Vec<String>>, CallError> {
        let request = self.ec2.describe_instance_type_offerings().location_type(LocationType::AvailabilityZone);
        let mut pages = request.into_paginator().items().send();
        let mut zones: BTreeMap<String, Vec<String>> = BTreeMap::new();
        while let Some(offering) = pages.next().await {
            let offering = offering.map_err(error::of("DescribeInstanceTypeOfferings"))?;
            if let (Some(name), Some(zone)) = (offering.instance_type, offering.location) {
                zones.entry(name.as_str().to_owned()).or_default().push(zone);
            }
        }
        for list in zones.values_mut() {
            list.sort();
            list.dedup();
        }
        Ok(zones)
    }

    /// Two queries, as the price list has bare metal apart.
    pub(crate) async fn on_demand_prices(&self) -> Result<BTreeMap<String, f64>, CallError> {
        let (mut all, metal) = tokio::try_join!(
            self.products("Shared", "Compute Instance"),
            self.products("Dedicated", "Compute Instance (bare metal)"),
        )?;
        all.extend(metal);
        Ok(all)
    }

    async fn products(&self, tenancy: &str, family: &str) -> Result<BTreeMap<String, f64>, CallError> {
        let fields = [
            ("regionCode", self.region()),
            ("serviceCode", "AmazonEC2"),
            ("preInstalledSw", "NA"),
            ("operatingSystem", "Linux"),
            ("capacitystatus", "Used"),
            ("marketoption", "OnDemand"),
            ("tenancy", tenancy),
            ("productFamily", family),
        ];
        let filters = fields
            .into_iter()
            .map(|(field, value)| {
                PriceFilter::builder().r#type(FilterType::TermMatch).field(field).value(value).build()
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|failed| error::local("GetProducts", "InvalidFilter", failed.to_string()))?;
        let request = self.pricing.get_products().service_code("AmazonEC2").set_filters(Some(filters));
        let mut pages = request.into_paginator().items().send();
        let currency = if self.region().starts_with("cn-") { "CNY" } else { "USD" };
        let mut all = BTreeMap::new();
        while let Some(product) = pages.next().await {
            let product = product.map_err(error::of("GetProducts"))?;
            if let Some((name, amount)) = price(&product, currency) {
                all.insert(name, amount);
            } else {
                tracing::debug!("a product of the price list has no hourly price");
            }
        }
        Ok(all)
    }

    /// The newest price of each type and zone.
    pub(crate) async fn spot_prices(&self) -> Result<BTreeMap<(String, String), f64>, CallError> {
        let now = std::time::SystemTime::now();
        let mut pages = self
            .ec2
            .describe_spot_price_history()
            .product_descriptions("Linux/UNIX")
            .product_descriptions("Linux/UNIX (Amazon VPC)")
            .start_time(now.into())
            .into_paginator()
            .items()
            .send();
        let mut newest: BTreeMap<(String, String), (i64, f64)> = BTreeMap::new();
        while let Some(entry) = pages.next().await {
            let entry = entry.map_err(error::of("DescribeSpotPriceHistory"))?;
            let usd = entry.spot_price.as_deref().and_then(|text| text.parse::<f64>().ok());
            let at = entry.timestamp.map_or(0, |at| at.secs());
            if let (Some(name), Some(zone), Some(usd)) = (entry.instance_type, entry.availability_zone, usd) {
                let key = (name.as_str().to_owned(), zone);
                if newest.get(&key).is_none_or(|(known, _)| *known < at) {
                    newest.insert(key, (at, usd));
                }
            }
        }
        Ok(newest.into_iter().map(|(key, (_, usd))| (key, usd)).collect())
    }
}

/// Type and price per hour of one product of the price list (a JSON document).
fn price(product: &str, currency: &str) -> Option<(String, f64)> {
    let product: Value = serde_json::from_str(product).ok()?;
    let name = product.pointer("/product/attributes/instanceType")?.as_str()?;
    let terms = product.pointer("/terms/OnDemand")?.as_object()?;
    let amount = terms
        .values()
        .filter_map(|term| term.get("priceDimensions")?.as_object())
        .flat_map(|dimensions| dimensions.values())
        .filter_map(|dimension| dimension.get("pricePerUnit")?.get(currency)?.as_str()?.parse::<f64>().ok())
        .find(|amount| *amount > 0.0)?;
    Some((name.to_owned(), amount))
}

fn told(name: String, zones: Vec<String>, info: ec2::InstanceTypeInfo) -> InstanceTypeInfo {
    let processor = info.processor_info.as_ref();
    let network = info.network_info.as_ref();
    let storage = info.instance_storage_info.as_ref();
    let ebs = info.ebs_info.as_ref();
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let architectures: Vec<&str> = processor
        .into_iter()
        .flat_map(aws_sdk_ec2::types::ProcessorInfo::supported_architectures)
        .map(aws_sdk_ec2::types::ArchitectureType::as_str)
        .collect();
    let usage: Vec<&str> =
        info.supported_usage_classes().iter().map(aws_sdk_ec2::types::UsageClassType::as_str).collect();
    InstanceTypeInfo {
        name,
        architectures: words(&architectures),
        usage_classes: words(&usage),
        bare_metal: info.bare_metal.unwrap_or(false),
        hypervisor: info.hypervisor.as_ref().map(|h| h.as_str().to_owned()).unwrap_or_default(),
        vcpus: info.v_cpu_info.as_ref().and_then(|v| v.default_v_cpus).map_or(0, i64::from),
        memory_mib: info.memory_info.as_ref().and_then(|m| m.size_in_mib).unwrap_or(0),
        cpu_manufacturer: processor.and_then(|p| p.manufacturer.clone()).unwrap_or_default(),
        sustained_clock_ghz: processor.and_then(|p| p.sustained_clock_speed_in_ghz),
        encryption_in_transit: network.and_then(|n| n.encryption_in_transit_supported).unwrap_or(false),
        enclaves: info.nitro_enclaves_support == Some(ec2::NitroEnclavesSupport::Supported),
        nested_virtualization: processor
            .is_some_and(|p| p.supported_features().iter().any(|feature| feature.as_str() == "nested-virtualization")),
        group_strategies: info
            .placement_group_info
            .as_ref()
            .map(ec2::PlacementGroupInfo::supported_strategies)
            .unwrap_or_default()
            .iter()
            .map(|strategy| strategy.as_str().to_owned())
            .collect(),
        ebs_optimized_default: ebs
            .and_then(|e| e.ebs_optimized_support.as_ref())
            .is_some_and(|s| s.as_str() == "default"),
        ebs_maximum_bandwidth_mbps: ebs
            .and_then(|e| e.ebs_optimized_info.as_ref()?.maximum_bandwidth_in_mbps)
            .map(i64::from),
        instance_storage_gb: storage.and_then(|s| s.total_size_in_gb),
        nvme: storage.and_then(|s| s.nvme_support.as_ref()).map(|n| n.as_str().to_owned()).unwrap_or_default(),
        network: network.map(of_network).unwrap_or_default(),
        gpus: info
            .gpu_info
            .as_ref()
            .map(aws_sdk_ec2::types::GpuInfo::gpus)
            .unwrap_or_default()
            .iter()
            .map(of_gpu)
            .collect(),
        neuron: info
            .neuron_info
            .as_ref()
            .map(aws_sdk_ec2::types::NeuronInfo::neuron_devices)
            .unwrap_or_default()
            .iter()
            .map(of_neuron)
            .collect(),
        inference: info
            .inference_accelerator_info
            .as_ref()
            .map(aws_sdk_ec2::types::InferenceAcceleratorInfo::accelerators)
            .unwrap_or_default()
            .iter()
            .map(|a| Accelerator {
                name: a.name.clone().unwrap_or_default(),
                manufacturer: a.manufacturer.clone().unwrap_or_default(),
                count: a.count.map_or(0, i64::from),
                cores: 0,
            })
            .collect(),
        zones,
    }
}

fn of_network(network: &ec2::NetworkInfo) -> NetworkInfo {
    NetworkInfo {
        maximum_interfaces: network.maximum_network_interfaces.map_or(0, i64::from),
        ipv4_per_interface: network.ipv4_addresses_per_interface.map_or(0, i64::from),
        default_card: network.default_network_card_index.map_or(0, i64::from),
        cards: network
            .network_cards()
            .iter()
            .map(|card| NetworkCard {
                index: card.network_card_index.map_or(0, i64::from),
                maximum_interfaces: card.maximum_network_interfaces.map_or(0, i64::from),
            })
            .collect(),
        ena: network.ena_support.as_ref().is_none_or(|support| support.as_str() != "unsupported"),
        efa_maximum_interfaces: network.efa_info.as_ref().and_then(|e| e.maximum_efa_interfaces).map(i64::from),
    }
}

fn of_gpu(gpu: &ec2::GpuDeviceInfo) -> Gpu {
    Gpu {
        name: gpu.name.clone().unwrap_or_default(),
        manufacturer: gpu.manufacturer.clone().unwrap_or_default(),
        count: gpu.count.map_or(0, i64::from),
        memory_mib: gpu.memory_info.as_ref().and_then(|m| m.size_in_mib).map_or(0, i64::from),
    }
}

fn of_neuron(device: &ec2::NeuronDeviceInfo) -> Accelerator {
    Accelerator {
        name: device.name.clone().unwrap_or_default(),
        manufacturer: "aws".to_owned(),
        count: device.count.map_or(0, i64::from),
        cores: device.core_info.as_ref().and_then(|c| c.count).map_or(0, i64::from),
    }
}
