//! Hashes against values that Karpenter's own types gave for the same objects.

use karpenter_api::hash::{ec2_node_class_hash, nodepool_hash};
use karpenter_api::{Ec2NodeClass, NodePool};
use serde_json::{Map, Value, json};

/// Base64 of `ca`.
const CA: &str = "Y2E=";

fn pool(template: &str) -> serde_norway::Result<String> {
    let template: Value = serde_norway::from_str(template)?;
    let object = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": "default" },
        "spec": { "template": template },
    });
    let pool: NodePool = serde_norway::from_value(serde_norway::to_value(object)?)?;
    Ok(nodepool_hash(&pool))
}

/// An EC2NodeClass with `spec` on top of the least one, without the defaults of the API server unless `spec` has them.
fn class(spec: &str, ca: &str) -> serde_norway::Result<String> {
    let mut fields: Map<String, Value> = Map::new();
    for list in ["amiSelectorTerms", "subnetSelectorTerms", "securityGroupSelectorTerms"] {
        fields.insert(list.to_owned(), json!([]));
    }
    fields.extend(serde_norway::from_str::<Map<String, Value>>(spec)?);
    let has_options = fields.contains_key("metadataOptions");
    let object = json!({
        "apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass", "metadata": { "name": "default" }, "spec": fields,
    });
    let mut class: Ec2NodeClass = serde_norway::from_value(serde_norway::to_value(object)?)?;
    if !has_options {
        class.spec.metadata_options = None;
    }
    Ok(ec2_node_class_hash(&class, ca))
}

const REFERENCE: &str = "nodeClassRef: { group: karpenter.k8s.aws, kind: EC2NodeClass, name: default }";

#[test]
fn a_small_pool() {
    let hash = pool(&format!("spec: {{ {REFERENCE}, requirements: [], expireAfter: 720h }}")).unwrap();
    assert_eq!(hash, "6821555240594823858");
    let requiring = "requirements: [{ key: kubernetes.io/os, operator: In, values: [linux] }]";
    let hash = pool(&format!("spec: {{ {REFERENCE}, {requiring}, expireAfter: 720h }}")).unwrap();
    assert_eq!(hash, "6821555240594823858", "requirements do not count");
    let hash = pool(&format!("metadata: {{}}\nspec: {{ {REFERENCE}, requirements: [], expireAfter: 720h }}")).unwrap();
    assert_eq!(hash, "6821555240594823858", "nothing does not count");
}

#[test]
fn a_pool_whose_nodes_never_expire() {
    let hash = pool(&format!("spec: {{ {REFERENCE}, requirements: [], expireAfter: Never }}")).unwrap();
    assert_eq!(hash, "17369979337536258260");
}

#[test]
fn a_pool_with_empty_lists_and_zero_durations() {
    let hash = pool(&format!(
        "
        metadata: {{ labels: {{}}, annotations: {{}} }}
        spec: {{ {REFERENCE}, requirements: [], taints: [], startupTaints: [], terminationGracePeriod: 0s, expireAfter: 0s }}
        "
    ));
    assert_eq!(hash.unwrap(), "15463769928733511830");
}

fn full_pool(labels: &str, taints: &str) -> serde_norway::Result<String> {
    pool(&format!(
        "
        metadata:
          labels: {{ {labels} }}
          annotations: {{ example.com/owner: a }}
        spec:
          {REFERENCE}
          requirements: []
          taints: [{taints}]
          startupTaints: [{{ key: node.cilium.io/agent-not-ready, effect: NoSchedule }}]
          terminationGracePeriod: 1h30m
          expireAfter: 48h30m10s
        "
    ))
}

#[test]
fn a_pool_with_everything_that_counts() {
    let web = "{ key: example.com/dedicated, value: web, effect: NoSchedule }";
    let late = "{ key: example.com/late, effect: NoExecute, timeAdded: \"2026-01-02T03:04:05Z\" }";
    let expected = "11715218735061875679";
    assert_eq!(full_pool("team: a, tier: web", &format!("{web}, {late}")).unwrap(), expected);
    assert_eq!(full_pool("tier: web, team: a", &format!("{late}, {web}")).unwrap(), expected, "order does not count");
    assert_ne!(full_pool("team: b, tier: web", &format!("{web}, {late}")).unwrap(), expected);
    assert_ne!(full_pool("team: a, tier: web", web).unwrap(), expected);
}

#[test]
fn a_small_class() {
    let spec = "
        role: KarpenterNodeRole-dev
        amiSelectorTerms: [{ alias: al2023@latest }]
        subnetSelectorTerms: [{ tags: { karpenter.sh/discovery: dev } }]
        securityGroupSelectorTerms: [{ tags: { karpenter.sh/discovery: dev } }]
    ";
    assert_eq!(class(spec, "").unwrap(), "1182646350935719736");
    let said = format!("{spec}\n        amiFamily: AL2023\n        ipPrefixCount: 4");
    assert_eq!(class(&said, "").unwrap(), "1182646350935719736", "the family of the alias is the family");
    let elsewhere = spec.replace("discovery: dev", "discovery: test");
    assert_eq!(class(&elsewhere, "").unwrap(), "1182646350935719736", "selectors do not count");
    assert_ne!(class(spec, CA).unwrap(), "1182646350935719736", "the CA counts");
}

#[test]
fn a_class_with_the_defaults_of_the_api_server() {
    let spec = "
        role: KarpenterNodeRole-dev
        amiSelectorTerms: [{ alias: bottlerocket@latest }]
        metadataOptions: {
          httpEndpoint: enabled, httpProtocolIPv6: disabled, httpPutResponseHopLimit: 1, httpTokens: required,
        }
    ";
    assert_eq!(class(spec, CA).unwrap(), "7363040109052827082");
}

const FULL: &str = r#"
        capacityReservationSelectorTerms: [{ id: cr-1 }]
        placementGroupSelector: { name: spread }
        associatePublicIPAddress: false
        ipPrefixCount: 4
        amiSelectorTerms: [{ id: ami-1 }]
        amiFamily: AL2023
        userData: "echo a"
        instanceProfile: profile
        tags: { team: a, empty: "" }
        kubelet:
          systemReserved: { memory: 1Gi, cpu: 100m }
          maxPods: "enis < 4 && true ? 20 : 30"
          featureGates: { B: true, A: false }
          rate: 0.5
        blockDeviceMappings:
        - deviceName: /dev/xvda
          rootVolume: true
          ebs:
            deleteOnTermination: true
            encrypted: false
            iops: 4000
            kmsKeyID: key
            snapshotID: snap-1
            throughput: 250
            volumeInitializationRate: 200
            volumeSize: 1024Gi
            volumeType: gp3
        - { deviceName: /dev/xvdb, rootVolume: false, ebs: { volumeSize: 100G } }
        - { deviceName: /dev/xvdc, ebs: { volumeSize: 2000G } }
        - { deviceName: /dev/xvdd, ebs: { volumeSize: 20Gi } }
        instanceStorePolicy: RAID0
        networkInterfaces:
        - { networkCardIndex: 0, deviceIndex: 0, interfaceType: interface }
        - { networkCardIndex: 1, deviceIndex: 1, interfaceType: efa-only }
        detailedMonitoring: true
        metadataOptions: {
          httpEndpoint: enabled, httpProtocolIPv6: enabled, httpPutResponseHopLimit: 2, httpTokens: optional,
        }
        connectionTracking: { tcpEstablishedTimeout: 300, udpStreamTimeout: 120, udpTimeout: 45 }
        context: context
        cpuOptions: { nestedVirtualization: enabled }
"#;

#[test]
fn a_class_with_everything_that_counts() {
    assert_eq!(class(FULL, CA).unwrap(), "6392621900900745915");
}

#[test]
fn every_setting_of_a_launch_counts() {
    for (setting, another) in [
        ("name: spread", "name: cluster"),
        ("associatePublicIPAddress: false", "associatePublicIPAddress: true"),
        ("amiFamily: AL2023", "amiFamily: Custom"),
        ("echo a", "echo b"),
        ("instanceProfile: profile", "instanceProfile: other"),
        ("team: a", "team: b"),
        ("memory: 1Gi", "memory: 2Gi"),
        ("deviceName: /dev/xvda", "deviceName: /dev/sda1"),
        ("rootVolume: true", "rootVolume: false"),
        ("deleteOnTermination: true", "deleteOnTermination: false"),
        ("encrypted: false", "encrypted: true"),
        ("iops: 4000", "iops: 4001"),
        ("kmsKeyID: key", "kmsKeyID: other"),
        ("snapshotID: snap-1", "snapshotID: snap-2"),
        ("throughput: 250", "throughput: 251"),
        ("volumeInitializationRate: 200", "volumeInitializationRate: 201"),
        ("volumeSize: 20Gi", "volumeSize: 21Gi"),
        ("volumeType: gp3", "volumeType: io2"),
        ("instanceStorePolicy: RAID0", ""),
        ("networkCardIndex: 1", "networkCardIndex: 2"),
        ("deviceIndex: 1", "deviceIndex: 2"),
        ("interfaceType: efa-only", "interfaceType: interface"),
        ("detailedMonitoring: true", "detailedMonitoring: false"),
        ("httpEndpoint: enabled", "httpEndpoint: disabled"),
        ("httpProtocolIPv6: enabled", "httpProtocolIPv6: disabled"),
        ("httpPutResponseHopLimit: 2", "httpPutResponseHopLimit: 3"),
        ("httpTokens: optional", "httpTokens: required"),
        ("tcpEstablishedTimeout: 300", "tcpEstablishedTimeout: 301"),
        ("udpStreamTimeout: 120", "udpStreamTimeout: 121"),
        ("udpTimeout: 45", "udpTimeout: 46"),
        ("context: context", "context: other"),
        ("nestedVirtualization: enabled", "nestedVirtualization: disabled"),
    ] {
        assert!(FULL.contains(setting), "{setting}");
        let hash = class(&FULL.replace(setting, another), CA).unwrap();
        assert_ne!(hash, "6392621900900745915", "{setting} → {another}");
    }
    let same = FULL.replace("volumeSize: 1024Gi", "volumeSize: 1Ti");
    assert_eq!(class(&same, CA).unwrap(), "6392621900900745915", "amounts count, not how they are written");
}

#[test]
fn a_class_with_empty_parts() {
    let spec = "
        role: r
        amiFamily: Custom
        amiSelectorTerms: [{ id: ami-1 }]
        tags: {}
        kubelet: {}
        blockDeviceMappings: []
        networkInterfaces: []
        cpuOptions: {}
        metadataOptions: { httpEndpoint: null, httpProtocolIPv6: null, httpPutResponseHopLimit: null, httpTokens: null }
    ";
    assert_eq!(class(spec, "").unwrap(), "8489660951215722142");
}

#[test]
fn a_class_with_a_placement_group_by_id() {
    let spec = "{ role: r, amiFamily: Windows2022, placementGroupSelector: { id: pg-1 } }";
    assert_eq!(class(spec, "").unwrap(), "14270096439642172760");
}
