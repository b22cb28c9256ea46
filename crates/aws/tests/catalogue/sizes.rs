//! What a class makes of a type's size.

use karpenter_api::labels as keys;
use karpenter_aws::AwsSettings;
use karpenter_aws::report::{Gpu, Report};
use karpenter_core::resources::{CPU, EPHEMERAL_STORAGE, MEMORY, PODS};
use karpenter_core::{Change, Object, Observation};
use serde_json::{Value, json};

use crate::fixture::{Market, every_type, label};

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;

#[test]
fn pods_of_a_node() {
    for (spec, instance_type, reserved_enis, pods) in [
        (json!({}), "m5.large", 0, 29),
        (json!({}), "m5.large", 1, 20),
        (json!({}), "m5.large", 5, 0),
        (json!({ "kubelet": { "maxPods": 110 } }), "m5.large", 1, 110),
        (json!({ "kubelet": { "podsPerCore": 4 } }), "m5.large", 0, 8),
        (json!({ "kubelet": { "podsPerCore": 4, "maxPods": 5 } }), "m5.large", 0, 5),
        (
            json!({ "kubelet": { "podsPerCore": 4 }, "amiSelectorTerms": [{ "alias": "bottlerocket@latest" }] }),
            "m5.large",
            0,
            29,
        ),
        (json!({ "amiSelectorTerms": [{ "alias": "windows2022@latest" }] }), "m5.large", 0, 110),
        // 15 interfaces on the default card, one of them for EFA alone.
        (json!({}), "p4d.24xlarge", 0, 737),
        (
            json!({ "networkInterfaces": [
            { "networkCardIndex": 0, "deviceIndex": 0, "interfaceType": "interface" },
            { "networkCardIndex": 0, "deviceIndex": 1, "interfaceType": "efa-only" },
            { "networkCardIndex": 1, "deviceIndex": 0, "interfaceType": "efa-only" },
        ] }),
            "p4d.24xlarge",
            0,
            688,
        ),
        // How many prefixes an interface has is the CNI's; the formula counts addresses.
        (json!({ "ipPrefixCount": 1 }), "m5.large", 0, 29),
    ] {
        let market = Market::selling(AwsSettings { reserved_enis, ..AwsSettings::default() }, &spec);
        assert_eq!(market.row(instance_type).capacity.get(PODS), pods, "{instance_type} {spec} {reserved_enis}");
    }
}

/// The kubelet keeps memory for as many pods as there are addresses, whatever RESERVED_ENIS and maxPods say; on
/// Bottlerocket and Windows for as many as there can be.
#[test]
fn memory_that_the_kubelet_keeps_for_pods() {
    for (alias, kubelet, reserved_enis, for_pods) in [
        ("al2023@latest", json!({}), 1, 29),
        ("al2023@latest", json!({ "maxPods": 10 }), 0, 29),
        ("al2@latest", json!({ "maxPods": 10 }), 0, 29),
        ("bottlerocket@latest", json!({ "maxPods": 10 }), 0, 10),
        ("bottlerocket@latest", json!({}), 1, 20),
        ("windows2022@latest", json!({}), 0, 110),
    ] {
        let spec = json!({ "amiSelectorTerms": [{ "alias": alias }], "kubelet": kubelet });
        let market = Market::selling(AwsSettings { reserved_enis, ..AwsSettings::default() }, &spec);
        let row = market.row("m5.large");
        let kept = row.capacity.get(MEMORY) - row.allocatable.get(MEMORY) - 100 * MIB;
        assert_eq!(kept, (11 * for_pods + 255) * MIB, "{alias} {kubelet}");
    }
}

#[test]
fn what_is_kept_back_by_name() {
    let kubelet = json!({
        "kubeReserved": { "memory": "1Gi" },
        "systemReserved": { "cpu": "100m", "ephemeral-storage": "2Gi" },
        "evictionHard": { "memory.available": "2%", "nodefs.available": "1Gi" },
        "evictionSoft": { "memory.available": "50%" },
    });
    let row = Market::selling(AwsSettings::default(), &json!({ "kubelet": kubelet })).row("m5.large");
    let (has, can) = (&row.capacity, &row.allocatable);
    assert_eq!(has.get(CPU) - can.get(CPU), 70 + 100, "the formula's CPU stays");
    let two_percent = (has.get(MEMORY) * 2 + 99) / 100;
    assert_eq!(has.get(MEMORY) - can.get(MEMORY), GIB + two_percent, "the soft threshold does not count");
    assert_eq!(has.get(EPHEMERAL_STORAGE) - can.get(EPHEMERAL_STORAGE), GIB + 2 * GIB + GIB);
}

#[test]
fn memory_less_what_the_machine_keeps() {
    for (instance_type, percent, mib) in [
        ("m5.large", 0.0, 8192),
        ("m5.large", 0.075, 8192 - 615),
        // Graviton hides 64 MiB.
        ("m6g.large", 0.0, 8192 - 64),
        ("m6g.large", 0.1, 8128 - 813),
    ] {
        let settings = AwsSettings { vm_memory_overhead: percent, ..AwsSettings::default() };
        let row = Market::selling(settings, &json!({})).row(instance_type);
        assert_eq!(row.capacity.get(MEMORY), mib * MIB, "{instance_type} {percent}");
        assert_eq!(label(&row, keys::INSTANCE_MEMORY), Some("8192"), "the label tells what is sold");
    }
}

#[test]
fn storage_of_a_node() {
    let volume = |device: &str, more: Value| {
        let mut mapping = json!({ "deviceName": device, "ebs": { "volumeSize": "100Gi" } });
        for (key, value) in more.as_object().unwrap() {
            mapping[key] = value.clone();
        }
        mapping
    };
    let with = |alias: &str, mappings: Value| json!({ "amiSelectorTerms": [{ "alias": alias }], "blockDeviceMappings": mappings });
    for (spec, instance_type, bytes) in [
        (json!({}), "m5d.large", 20 * GIB),
        (json!({ "instanceStorePolicy": "RAID0" }), "m5d.large", 75_000_000_000),
        (json!({ "instanceStorePolicy": "RAID0" }), "m5.large", 20 * GIB),
        (with("al2023@latest", json!([volume("/dev/xvda", json!({}))])), "m5.large", 100 * GIB),
        (with("al2023@latest", json!([volume("/dev/xvdb", json!({}))])), "m5.large", 20 * GIB),
        (with("al2023@latest", json!([volume("/dev/xvdb", json!({ "rootVolume": true }))])), "m5.large", 100 * GIB),
        // A volume without a size is as large as its snapshot: the family's default is all that is known.
        (
            with("al2023@latest", json!([volume("/dev/xvda", json!({ "ebs": { "snapshotID": "snap-1" } }))])),
            "m5.large",
            20 * GIB,
        ),
        (with("bottlerocket@latest", json!([volume("/dev/xvda", json!({}))])), "m5.large", 20 * GIB),
        (with("bottlerocket@latest", json!([volume("/dev/xvdb", json!({}))])), "m5.large", 100 * GIB),
        (with("windows2022@latest", json!(null)), "m5.large", 50 * GIB),
        (
            json!({ "amiFamily": "Custom", "amiSelectorTerms": [{ "id": "ami-1" }], "blockDeviceMappings": [
            volume("/dev/xvda", json!({ "ebs": { "volumeSize": "7Gi" } })), volume("/dev/sdz", json!({})),
        ] }),
            "m5.large",
            100 * GIB,
        ),
    ] {
        let row = Market::selling(AwsSettings::default(), &spec).row(instance_type);
        assert_eq!(row.capacity.get(EPHEMERAL_STORAGE), bytes, "{instance_type} {spec}");
    }
}

#[test]
fn devices() {
    let market = Market::selling(AwsSettings::default(), &json!({}));
    for (instance_type, resource, amount) in [
        ("p4d.24xlarge", "nvidia.com/gpu", 8),
        ("p4d.24xlarge", "vpc.amazonaws.com/efa", 4),
        ("inf1.xlarge", "aws.amazon.com/neuron", 1),
        ("inf1.xlarge", "aws.amazon.com/neuroncore", 4),
        ("trn1.2xlarge", "aws.amazon.com/neuroncore", 2),
        ("trn1.32xlarge", "aws.amazon.com/neuroncore", 32),
        ("m5.large", "vpc.amazonaws.com/pod-eni", 9),
        ("t3.large", "vpc.amazonaws.com/pod-eni", 0),
    ] {
        assert_eq!(market.row(instance_type).capacity.get(resource), amount, "{instance_type} {resource}");
    }
    let own = json!({ "networkInterfaces": [
        { "networkCardIndex": 0, "deviceIndex": 0, "interfaceType": "interface" },
        { "networkCardIndex": 1, "deviceIndex": 1, "interfaceType": "efa-only" },
    ] });
    let row = Market::selling(AwsSettings::default(), &own).row("p4d.24xlarge");
    assert_eq!(row.capacity.get("vpc.amazonaws.com/efa"), 1, "the class's interfaces, not what could be");
}

#[test]
fn windows_runs_on_amd64_alone() {
    let spec = json!({ "amiSelectorTerms": [{ "alias": "windows2022@latest" }] });
    let market = Market::selling(AwsSettings::default(), &spec);
    let row = market.row("m5.large");
    assert_eq!(label(&row, keys::OS), Some("windows"));
    assert_eq!(label(&row, keys::WINDOWS_BUILD), Some("10.0.20348"));
    assert_eq!(row.capacity.get("vpc.amazonaws.com/PrivateIPv4Address"), 9);
    assert_eq!(label(&market.row("m6g.large"), keys::OS), None);
}

#[test]
fn labels_of_a_type() {
    let market = Market::selling(AwsSettings::default(), &json!({ "amiFamily": "Custom" }));
    for (instance_type, key, value) in [
        ("m5d.large", keys::INSTANCE_CATEGORY, Some("m")),
        ("m5d.large", keys::INSTANCE_GENERATION, Some("5")),
        ("m5d.large", keys::INSTANCE_FAMILY, Some("m5d")),
        ("m5d.large", keys::INSTANCE_SIZE, Some("large")),
        ("m5d.large", keys::INSTANCE_LOCAL_NVME, Some("75")),
        ("m5d.large", keys::INSTANCE_CPU, Some("2")),
        ("m5d.large", keys::INSTANCE_CPU_MANUFACTURER, Some("intel")),
        ("m5d.large", keys::INSTANCE_CPU_CLOCK, Some("3100")),
        ("m5d.large", keys::INSTANCE_EBS_BANDWIDTH, Some("4750")),
        ("m5d.large", keys::INSTANCE_HYPERVISOR, Some("nitro")),
        ("m5d.large", keys::INSTANCE_ENCRYPTION_IN_TRANSIT, Some("false")),
        ("m5d.large", keys::NITRO_SANDBOX, Some("false")),
        ("m5d.large", keys::INSTANCE_GPU_NAME, None),
        ("m5d.large", keys::INSTANCE_ACCELERATOR_NAME, None),
        ("m5d.large", keys::WINDOWS_BUILD, None),
        ("m5d.large", keys::CAPACITY_RESERVATION_ID, None),
        ("m5d.large", keys::PLACEMENT_GROUP_ID, None),
        ("m5.large", keys::INSTANCE_LOCAL_NVME, None),
        ("m6g.large", keys::ARCH, Some("arm64")),
        ("m6g.large", keys::INSTANCE_CPU_MANUFACTURER, Some("aws")),
        ("m7i-flex.large", keys::INSTANCE_CAPABILITY_FLEX, Some("true")),
        ("m7i-flex.large", keys::INSTANCE_CATEGORY, Some("m")),
        ("m7i-flex.large", keys::INSTANCE_GENERATION, Some("7")),
        ("u-6tb1.56xlarge", keys::INSTANCE_CATEGORY, Some("u")),
        ("u-6tb1.56xlarge", keys::INSTANCE_GENERATION, Some("1")),
        ("u7in-16tb.224xlarge", keys::INSTANCE_GENERATION, Some("7")),
        ("inf1.xlarge", keys::INSTANCE_CATEGORY, Some("inf")),
        ("inf1.xlarge", keys::INSTANCE_ACCELERATOR_NAME, Some("inferentia")),
        ("inf1.xlarge", keys::INSTANCE_ACCELERATOR_MANUFACTURER, Some("aws")),
        ("inf1.xlarge", keys::INSTANCE_ACCELERATOR_COUNT, Some("1")),
        ("p4d.24xlarge", keys::INSTANCE_GPU_NAME, Some("a100")),
        ("p4d.24xlarge", keys::INSTANCE_GPU_MANUFACTURER, Some("nvidia")),
        ("p4d.24xlarge", keys::INSTANCE_GPU_COUNT, Some("8")),
        ("p4d.24xlarge", keys::INSTANCE_GPU_MEMORY, Some("40960")),
        ("p4d.24xlarge", keys::INSTANCE_ENCRYPTION_IN_TRANSIT, Some("true")),
        ("p4d.24xlarge", keys::NITRO_SANDBOX, Some("true")),
        ("m5.metal", keys::INSTANCE_SIZE, Some("metal")),
        ("m5.metal", keys::INSTANCE_HYPERVISOR, Some("")),
    ] {
        assert_eq!(label(&market.row(instance_type), key), value, "{instance_type} {key}");
    }
}

/// A node of a class, registered, with this much memory.
fn joined(market: &mut Market, name: &str, image: &str, memory: &str) {
    let provider_id = format!("aws:///us-east-1a/i-{name}");
    let claim = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": { "name": name, "uid": name },
        "spec": {
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" },
            "requirements": [],
        },
        "status": { "providerID": provider_id, "imageID": image, "nodeName": name },
    });
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": {
            "karpenter.sh/registered": "true", "node.kubernetes.io/instance-type": "m5.large",
        } },
        "spec": { "providerID": provider_id },
        "status": { "capacity": { "memory": memory } },
    });
    let objects = [
        Object::NodeClaim(Box::new(serde_json::from_value(claim).unwrap())),
        Object::Node(Box::new(serde_json::from_value(node).unwrap())),
    ];
    for object in objects {
        market.world.apply(Observation::Kube(Change::Applied(object)), market.now);
    }
}

#[test]
fn memory_that_nodes_have_is_remembered() {
    let mut market = Market::selling(AwsSettings::default(), &json!({}));
    let memory = |market: &Market| market.row("m5.large").capacity.get(MEMORY);
    let estimate = memory(&market);
    joined(&mut market, "old", "ami-0", "7700Mi");
    assert!(!market.after(10), "a node of an image that is no longer bought says nothing");
    joined(&mut market, "first", "ami-1", "7800Mi");
    assert!(market.after(10), "the catalogue is another");
    assert_eq!(memory(&market), 7800 * MIB);
    let row = market.row("m5.large");
    assert_eq!(row.allocatable.get(MEMORY), (7800 - (11 * 29 + 255) - 100) * MIB);
    assert_eq!(market.row("m5.xlarge").capacity.get(MEMORY), (16384 - 1229) * MIB, "others are estimated as before");
    joined(&mut market, "larger", "ami-1", "7900Mi");
    assert!(!market.after(10));
    joined(&mut market, "smaller", "ami-1", "7790Mi");
    assert!(market.after(10));
    assert_eq!(memory(&market), 7790 * MIB, "what is planned must fit the smallest");

    market.world = karpenter_core::World::default();
    assert!(!market.after(59 * 24 * 3600), "remembered without nodes");
    assert!(market.after(2 * 24 * 3600), "not for ever");
    assert_eq!(memory(&market), estimate);
}

/// Makers that moto has no types of.
#[test]
fn accelerators_of_other_makers() {
    let mut types = every_type();
    types.retain(|info| info.name == "m5.large");
    for (manufacturer, resource) in [("AMD", "amd.com/gpu"), ("Habana", "habana.ai/gaudi")] {
        let gpu = |count| Gpu { manufacturer: manufacturer.into(), name: "Some Name".into(), count, memory_mib: 1024 };
        types[0].gpus = vec![gpu(4)];
        let mut market = Market::selling(AwsSettings::default(), &json!({}));
        market.hear(Report::InstanceTypes { result: Ok(types.clone()) });
        market.tick();
        assert_eq!(market.row("m5.large").capacity.get(resource), 4, "{manufacturer}");
        assert_eq!(label(&market.row("m5.large"), keys::INSTANCE_GPU_NAME), Some("some-name"));
        types[0].gpus.push(gpu(2));
        market.hear(Report::InstanceTypes { result: Ok(types.clone()) });
        market.tick();
        assert_eq!(market.row("m5.large").capacity.get(resource), 6, "{manufacturer}");
        assert_eq!(label(&market.row("m5.large"), keys::INSTANCE_GPU_NAME), None, "a label has no room for two kinds");
    }
}
