//! From a pending pod to a running one.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use karpenter_api::Operator;
use karpenter_harness::{Instance, Seen};
use serde_json::json;

use crate::manifests::{any_of, class, daemon_set, deployment, on_demand, on_pool, pool, requiring, types};
use crate::stage::{SOON, Stage, condition, is, label, name, node_name, node_of, provider_id, told};

/// Everything Karpenter writes along the way, as its users know it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_becomes_a_node_and_everything_bears_karpenters_marks() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let starting = json!({ "key": "example.com/starting", "effect": "NoSchedule" });
    let dedicated = json!({ "key": "dedicated", "value": "blue", "effect": "NoSchedule" });
    let template = json!({
        "metadata": { "labels": { "team": "blue" }, "annotations": { "example.com/owner": "blue" } },
        "spec": {
            "taints": [dedicated], "startupTaints": [starting], "expireAfter": "720h", "terminationGracePeriod": "1h",
            "requirements": [
                any_of("karpenter.sh/capacity-type", &["spot", "on-demand"]),
                any_of("karpenter.k8s.aws/instance-category", &["m"]),
                any_of("kubernetes.io/arch", &["amd64"]),
                { "key": "karpenter.k8s.aws/instance-generation", "operator": "Gt", "values": ["4"] },
            ],
        },
    });
    let tolerating = json!({ "tolerations": [{ "key": "dedicated", "operator": "Exists" }] });
    stage
        .apply(&[
            class("default", &json!({ "tags": { "billing": "blue" } })),
            pool("general", &json!({ "template": template })),
            deployment("app", 3, "500m", "512Mi", &tolerating),
        ])
        .await?;

    // A start-up taint holds the claim back until whoever put it there takes it away.
    let claim = stage
        .until("the claim waits for its start-up taint", SOON, async || {
            let claim = stage.claims("general").await?.pop();
            let waits = claim.as_ref().is_some_and(|claim| is(claim, "Initialized", "StartupTaintsExist"));
            Ok(match claim {
                Some(claim) if waits => Seen::Done(claim),
                other => Seen::NotYet(other.as_ref().map(told).unwrap_or_default()),
            })
        })
        .await?;
    assert!(is(&claim, "Ready", "Unknown"), "{}", told(&claim));
    remove_taint(&stage, node_name(&claim), "example.com/starting").await?;
    let claim = stage.ready_claim("general").await?;
    let pods = stage.pods_run("app", 3).await?;
    assert!(pods.iter().all(|pod| node_of(pod) == node_name(&claim)), "one node is enough for all three");

    the_claim_is_karpenters(&stage, &claim).await?;
    the_instance_is_karpenters(&stage, &claim)?;
    the_node_is_karpenters(&stage, &claim).await?;
    the_class_tells_what_it_found(&stage).await?;
    the_pool_counts_its_node(&stage).await?;
    for pod in &pods {
        stage.is_told("Pod", name(&pod.metadata), "Nominated", &[name(&claim.metadata)]).await?;
    }
    stage.is_told("NodeClaim", name(&claim.metadata), "Launched", &["True"]).await?;
    Ok(())
}

async fn remove_taint(stage: &Stage, node: &str, key: &str) -> anyhow::Result<()> {
    let node = stage.node(node).await?;
    let mut taints = node.spec.unwrap_or_default().taints.unwrap_or_default();
    taints.retain(|taint| taint.key != key);
    let patch = kube::api::Patch::Merge(json!({
        "metadata": { "resourceVersion": node.metadata.resource_version },
        "spec": { "taints": taints },
    }));
    let api: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(stage.cluster.client.clone());
    api.patch(name(&node.metadata), &kube::api::PatchParams::default(), &patch).await?;
    Ok(())
}

/// `expected` is a part of `found`.
fn holds<'a>(found: Option<&BTreeMap<String, String>>, expected: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (key, value) in expected {
        assert_eq!(found.and_then(|found| found.get(key)).map(String::as_str), Some(value), "{key} in {found:#?}");
    }
}

fn owner<'a>(owners: Option<&'a Vec<OwnerReference>>, kind: &str) -> anyhow::Result<&'a OwnerReference> {
    let found = owners.into_iter().flatten().find(|owner| owner.kind == kind);
    found.with_context(|| format!("no owner of kind {kind}: {owners:?}"))
}

async fn the_claim_is_karpenters(stage: &Stage, claim: &karpenter_api::NodeClaim) -> anyhow::Result<()> {
    let (pool, class) = (stage.pool("general").await?, stage.class("default").await?);
    let instance = only(stage, "general")?;
    let meta = &claim.metadata;
    assert!(name(meta).starts_with("general-"), "{}", name(meta));
    holds(
        meta.labels.as_ref(),
        [
            ("karpenter.sh/nodepool", "general"),
            ("karpenter.k8s.aws/ec2nodeclass", "default"),
            ("karpenter.sh/capacity-type", "spot"),
            ("team", "blue"),
            ("kubernetes.io/arch", "amd64"),
            ("kubernetes.io/os", "linux"),
            ("node.kubernetes.io/instance-type", &instance.instance_type),
            ("topology.kubernetes.io/zone", &instance.zone),
            ("topology.kubernetes.io/region", "us-west-2"),
            ("karpenter.k8s.aws/instance-category", "m"),
            ("karpenter.k8s.aws/instance-hypervisor", "nitro"),
            ("karpenter.k8s.aws/instance-tenancy", "default"),
        ],
    );
    for key in ["family", "generation", "size", "cpu", "cpu-manufacturer", "memory", "capability-flex"] {
        assert_ne!(label(claim, &format!("karpenter.k8s.aws/instance-{key}")), "", "{key}: {:#?}", meta.labels);
    }
    assert!(label(claim, "topology.k8s.aws/zone-id").starts_with("usw2-az"));
    let of = |object: &kube::api::ObjectMeta, key: &str| {
        object.annotations.as_ref().and_then(|all| all.get(key)).cloned().unwrap_or_default()
    };
    let profile = class.status.as_ref().and_then(|status| status.instance_profile.clone()).unwrap_or_default();
    holds(
        meta.annotations.as_ref(),
        [
            ("karpenter.sh/nodepool-hash", of(&pool.metadata, "karpenter.sh/nodepool-hash").as_str()),
            ("karpenter.sh/nodepool-hash-version", "v3"),
            ("karpenter.k8s.aws/ec2nodeclass-hash", &of(&class.metadata, "karpenter.k8s.aws/ec2nodeclass-hash")),
            ("karpenter.k8s.aws/ec2nodeclass-hash-version", "v6"),
            ("karpenter.k8s.aws/instance-profile-name", &profile),
            ("example.com/owner", "blue"),
        ],
    );
    assert_eq!(meta.finalizers, Some(vec!["karpenter.sh/termination".to_owned()]));
    let owner = owner(meta.owner_references.as_ref(), "NodePool")?;
    assert_eq!(
        (owner.api_version.as_str(), owner.name.as_str(), Some(&owner.uid), owner.block_owner_deletion),
        ("karpenter.sh/v1", "general", pool.metadata.uid.as_ref(), Some(true))
    );
    let spec = &claim.spec;
    assert_eq!(spec.node_class_ref, pool.spec.template.spec.node_class_ref);
    assert_eq!(spec.taints, pool.spec.template.spec.taints);
    assert_eq!(spec.startup_taints, pool.spec.template.spec.startup_taints);
    assert_eq!(spec.expire_after.as_deref(), Some("720h"));
    assert_eq!(spec.termination_grace_period.as_deref(), Some("1h"));
    let listed = spec.requirements.iter().find(|one| one.key == "node.kubernetes.io/instance-type");
    let listed = listed.filter(|one| one.operator == Operator::In).and_then(|one| one.values.as_ref());
    assert!(listed.is_some_and(|types| types.contains(&instance.instance_type) && types.len() > 1), "{listed:?}");
    let status = claim.status.clone().unwrap_or_default();
    assert_eq!(status.provider_id, Some(format!("aws:///{}/{}", instance.zone, instance.id)));
    assert_eq!(status.image_id.as_ref(), Some(&instance.image));
    let cpus = label(claim, "karpenter.k8s.aws/instance-cpu").to_owned();
    assert_eq!(status.capacity.as_ref().and_then(|all| all.get("cpu")).map(ToString::to_string), Some(cpus));
    let allocatable = status.allocatable.unwrap_or_default();
    for resource in ["cpu", "memory", "pods", "ephemeral-storage"] {
        assert!(allocatable.contains_key(resource), "{resource}: {allocatable:?}");
    }
    for kind in ["Launched", "Registered", "Initialized", "Ready"] {
        assert!(is(claim, kind, "True"), "{kind}: {}", told(claim));
        assert_eq!(condition(claim, kind).map(|known| known.reason.as_str()), Some(kind));
    }
    Ok(())
}

/// The instance of a pool that has one.
fn only(stage: &Stage, pool: &str) -> anyhow::Result<Instance> {
    let mut all = stage.instances(pool)?;
    assert_eq!(all.len(), 1, "{all:#?}");
    Ok(all.remove(0))
}

fn the_instance_is_karpenters(stage: &Stage, claim: &karpenter_api::NodeClaim) -> anyhow::Result<()> {
    let instance = only(stage, "general")?;
    let ours = [
        ("kubernetes.io/cluster/dev", "owned"),
        ("karpenter.sh/nodepool", "general"),
        ("karpenter.k8s.aws/ec2nodeclass", "default"),
        ("eks:eks-cluster-name", "dev"),
        ("billing", "blue"),
    ];
    holds(Some(&instance.tags), ours);
    assert!(instance.spot, "spot is allowed and costs less");
    let profile =
        claim.metadata.annotations.as_ref().and_then(|all| all.get("karpenter.k8s.aws/instance-profile-name"));
    assert!(profile.is_some_and(|profile| instance.profile.ends_with(profile)), "{profile:?} in {}", instance.profile);
    assert_eq!(instance.security_groups.len(), 2, "those that are tagged for discovery: {instance:?}");

    let id = instance.tags.get("aws:ec2launchtemplate:id").map_or("", String::as_str);
    let template = stage.aws.ec2("DescribeLaunchTemplates", &[("LaunchTemplateId.1", id)])?;
    for text in ["<launchTemplateName>karpenter.k8s.aws/", "<key>eks:eks-cluster-name</key>", "<key>billing</key>"] {
        assert!(template.contains(text), "{text} in {template}");
    }
    let data = stage
        .aws
        .ec2("DescribeLaunchTemplateVersions", &[("LaunchTemplateId", id), ("LaunchTemplateVersion.1", "1")])?;
    for text in [
        "<httpTokens>required</httpTokens>",
        "<httpPutResponseHopLimit>1</httpPutResponseHopLimit>",
        "<volumeSize>20</volumeSize>",
        "<volumeType>gp3</volumeType>",
        "<encrypted>true</encrypted>",
    ] {
        assert!(data.contains(text), "{text} in {data}");
    }
    Ok(())
}

async fn the_node_is_karpenters(stage: &Stage, claim: &karpenter_api::NodeClaim) -> anyhow::Result<()> {
    let node = stage.node(node_name(claim)).await?;
    let of_claim = claim.metadata.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
    let own = [("karpenter.sh/registered", "true"), ("karpenter.sh/initialized", "true")];
    holds(node.metadata.labels.as_ref(), of_claim.chain(own));
    holds(
        node.metadata.annotations.as_ref(),
        [("example.com/owner", "blue"), ("karpenter.sh/nodepool-hash-version", "v3")],
    );
    assert!(node.metadata.finalizers.iter().flatten().any(|one| one == "karpenter.sh/termination"));
    let owner = owner(node.metadata.owner_references.as_ref(), "NodeClaim")?;
    assert_eq!(
        (owner.api_version.as_str(), owner.name.as_str(), Some(&owner.uid), owner.block_owner_deletion),
        ("karpenter.sh/v1", name(&claim.metadata), claim.metadata.uid.as_ref(), Some(true))
    );
    let spec = node.spec.unwrap_or_default();
    assert_eq!(spec.provider_id.as_deref(), Some(provider_id(claim)));
    let taints: Vec<_> =
        spec.taints.iter().flatten().map(|taint| (taint.key.as_str(), taint.effect.as_str())).collect();
    assert_eq!(taints, [("dedicated", "NoSchedule")], "neither unregistered nor start-up taints are left");
    Ok(())
}

async fn the_class_tells_what_it_found(stage: &Stage) -> anyhow::Result<()> {
    let class = stage.class("default").await?;
    let meta = &class.metadata;
    assert_eq!(meta.finalizers, Some(vec!["karpenter.k8s.aws/termination".to_owned()]));
    holds(meta.annotations.as_ref(), [("karpenter.k8s.aws/ec2nodeclass-hash-version", "v6")]);
    let status = class.status.clone().unwrap_or_default();
    let zones: Vec<String> = status.subnets.iter().flatten().map(|subnet| subnet.zone.clone()).collect();
    assert_eq!(zones, ["us-west-2b", "us-west-2a", "us-west-2c"], "most free addresses first");
    assert_eq!(status.security_groups.iter().flatten().count(), 2);
    assert!(status.instance_profile.as_deref().is_some_and(|name| name.starts_with("dev_")), "{status:?}");
    let arches: BTreeSet<String> = status
        .amis
        .iter()
        .flatten()
        .flat_map(|ami| &ami.requirements)
        .filter(|one| one.key == "kubernetes.io/arch")
        .flat_map(|one| one.values.clone().unwrap_or_default())
        .collect();
    assert_eq!(arches, ["amd64".to_owned(), "arm64".to_owned()].into());
    let conditions: BTreeMap<&str, &str> =
        status.conditions.iter().flatten().map(|known| (known.type_.as_str(), known.status.as_str())).collect();
    let expected = [
        "AMIsReady",
        "CapacityReservationsReady",
        "InstanceProfileReady",
        "PlacementGroupReady",
        "Ready",
        "SecurityGroupsReady",
        "SubnetsReady",
        "ValidationSucceeded",
    ];
    assert_eq!(conditions, expected.into_iter().map(|kind| (kind, "True")).collect());
    Ok(())
}

async fn the_pool_counts_its_node(stage: &Stage) -> anyhow::Result<()> {
    stage
        .until("the NodePool counts its node", SOON, async || {
            let status = stage.pool("general").await?.status.unwrap_or_default();
            let conditions: BTreeMap<String, String> =
                status.conditions.iter().flatten().map(|known| (known.type_.clone(), known.status.clone())).collect();
            let is_true = |kind: &str| conditions.get(kind).is_some_and(|status| status == "True");
            let ready = ["Ready", "ValidationSucceeded", "NodeClassReady"].into_iter().all(is_true);
            let counted = |what: &str| {
                status.resources.as_ref().and_then(|all| all.get(what)).map(ToString::to_string).unwrap_or_default()
            };
            let done = ready && status.nodes == Some(1) && counted("nodes") == "1" && counted("cpu") != "0";
            Ok(Seen::holds(done, (&status, &conditions)))
        })
        .await
}

/// Spot by price and capacity, on-demand by price alone, and no larger than the pod needs.
#[tokio::test(flavor = "multi_thread")]
async fn each_capacity_type_is_bought_its_own_way_and_fits_the_pod() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let of = |capacity: &str| {
        requiring(&[
            any_of("karpenter.sh/capacity-type", &[capacity]),
            any_of("karpenter.k8s.aws/instance-category", &["c", "m", "r"]),
            any_of("kubernetes.io/arch", &["amd64"]),
        ])
    };
    stage
        .apply(&[
            class("default", &json!({})),
            pool("spot", &of("spot")),
            pool("firm", &of("on-demand")),
            deployment("a", 1, "1500m", "2Gi", &on_pool("spot")),
            deployment("b", 1, "1500m", "2Gi", &on_pool("firm")),
        ])
        .await?;
    stage.pods_run("a", 1).await?;
    stage.pods_run("b", 1).await?;
    let calls: BTreeMap<String, BTreeMap<String, String>> =
        stage.calls("CreateFleet")?.into_iter().map(|call| (call["ClientToken"].clone(), call)).collect();
    assert_eq!(calls.len(), 2, "one fleet a claim");
    for (pool, market, strategy, spot) in [
        ("spot", "spot", ("SpotOptions.AllocationStrategy", "price-capacity-optimized"), true),
        ("firm", "on-demand", ("OnDemandOptions.AllocationStrategy", "lowest-price"), false),
    ] {
        let claim = stage.ready_claim(pool).await?;
        // The fleet's token was on the claim before EC2 was asked.
        let token = claim.metadata.annotations.as_ref().and_then(|all| all.get("karpenter-rs.dev/launch"));
        let call = calls.get(token.map_or("", String::as_str));
        let target = "TargetCapacitySpecification";
        holds(
            call,
            [
                ("Type", "instant"),
                (&format!("{target}.TotalTargetCapacity"), "1"),
                (&format!("{target}.DefaultTargetCapacityType"), market),
                strategy,
            ],
        );
        let instance = only(&stage, pool)?;
        assert_eq!(instance.spot, spot);
        assert_eq!(label(&claim, "karpenter.sh/capacity-type"), market);
        assert_eq!(label(&claim, "karpenter.k8s.aws/instance-cpu"), "2", "{} is too large", instance.instance_type);
    }
    let firm = stage.ready_claim("firm").await?;
    let listed = firm.spec.requirements.iter().find(|one| one.key == "node.kubernetes.io/instance-type");
    let prices = on_demand_prices()?;
    let price = |kind: &String| prices.get(kind).copied().unwrap_or(f64::MAX);
    let cheapest = listed.and_then(|one| one.values.as_ref()).into_iter().flatten().map(price).fold(f64::MAX, f64::min);
    let bought = price(&only(&stage, "firm")?.instance_type);
    assert!(bought <= cheapest, "{bought} $/h was paid, {cheapest} was on the list");
    Ok(())
}

/// The price list of the AWS peer.
fn on_demand_prices() -> anyhow::Result<BTreeMap<String, f64>> {
    let file = karpenter_harness::root().join("dev/aws/karpenter_aws_peer/data/on-demand-prices.tsv");
    let text = std::fs::read_to_string(file)?;
    let rows = text.lines().filter_map(|line| line.split_once('\t'));
    Ok(rows.filter_map(|(name, usd)| Some((name.to_owned(), usd.trim().parse().ok()?))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_never_grows_beyond_its_limits() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let limited = |cpu: u32| pool("small", &json!({ "limits": { "cpu": cpu } }));
    stage
        .apply(&[class("default", &json!({})), limited(8), deployment("app", 10, "1500m", "1Gi", &on_pool("small"))])
        .await?;
    // However it is cut, 8 CPUs hold at least three of these pods and at most five.
    stage
        .until("some pods run, the others are told of the limit", SOON, async || {
            let mut messages = Vec::new();
            let (bound, waiting): (Vec<_>, Vec<_>) =
                stage.pods("app").await?.into_iter().partition(|pod| !node_of(pod).is_empty());
            for pod in &waiting {
                messages.extend(stage.events("Pod", name(&pod.metadata), "FailedScheduling").await?);
            }
            let told = messages.iter().any(|message| message.contains("small") && message.contains("limits"));
            Ok(Seen::holds((3..=5).contains(&bound.len()) && told, (bound.len(), messages)))
        })
        .await?;
    assert!(cpus(&stage, "small").await? <= 8, "{:?}", stage.instances("small")?);

    stage.apply(&[limited(32)]).await?;
    stage.pods_run("app", 10).await?;
    assert!(cpus(&stage, "small").await? <= 32, "{:?}", stage.instances("small")?);
    Ok(())
}

/// CPUs of the claims of a pool.
async fn cpus(stage: &Stage, pool: &str) -> anyhow::Result<i64> {
    let claims = stage.claims(pool).await?;
    Ok(claims.iter().filter_map(|claim| label(claim, "karpenter.k8s.aws/instance-cpu").parse::<i64>().ok()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heaviest_pool_that_can_serves_a_pod() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let taint = json!([{ "key": "gpu", "value": "true", "effect": "NoSchedule" }]);
    let toleration = json!({ "tolerations": [{ "key": "gpu", "operator": "Equal", "value": "true" }] });
    let family = |name: &str| requiring(&[on_demand(), any_of("karpenter.k8s.aws/instance-family", &[name])]);
    let weighted = |weight: u32| json!({ "weight": weight });
    let mut tainted = weighted(100);
    tainted["template"] = json!({ "spec": { "taints": taint } });
    let mut only_r5 = weighted(1);
    only_r5["template"] = family("r5")["template"].clone();
    stage
        .apply(&[
            class("default", &json!({})),
            pool("first", &tainted),
            pool("second", &weighted(50)),
            pool("third", &only_r5),
        ])
        .await?;
    stage.pools_are_ready(&["first", "second", "third"]).await?;
    let r5 = json!({ "nodeSelector": { "karpenter.k8s.aws/instance-family": "r5" } });
    // One after the other: together, kube-scheduler might bind one to the node that was bought for another.
    for (app, expected, pod) in
        [("tolerant", "first", &toleration), ("plain", "second", &json!({})), ("picky", "third", &r5)]
    {
        stage.apply(&[deployment(app, 1, "1500m", "512Mi", pod)]).await?;
        let pod = stage.pods_run(app, 1).await?.remove(0);
        let node = stage.node(&node_of(&pod)).await?;
        holds(node.metadata.labels.as_ref(), [("karpenter.sh/nodepool", expected)]);
    }
    assert_eq!(stage.cluster.claims().await?.len(), 3);
    Ok(())
}

/// A pod that would fit without what a DaemonSet takes gets a larger machine.
#[tokio::test(flavor = "multi_thread")]
async fn daemons_are_counted_before_the_machine_is_chosen() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let of = |monitored: &str| {
        let mut spec = requiring(&[on_demand(), types(&["m5.large", "m5.xlarge"])]);
        spec["template"]["metadata"] = json!({ "labels": { "monitored": monitored } });
        spec
    };
    stage
        .apply(&[
            class("default", &json!({})),
            daemon_set("agent", "400m", "128Mi", &json!({ "nodeSelector": { "monitored": "yes" } })),
            pool("with", &of("yes")),
            pool("without", &of("no")),
            deployment("a", 1, "1700m", "1Gi", &on_pool("with")),
            deployment("b", 1, "1700m", "1Gi", &on_pool("without")),
        ])
        .await?;
    stage.pods_run("a", 1).await?;
    stage.pods_run("b", 1).await?;
    stage.pods_run("agent", 1).await?;
    assert_eq!(only(&stage, "with")?.instance_type, "m5.xlarge");
    assert_eq!(only(&stage, "without")?.instance_type, "m5.large");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_spread_over_zones_as_they_ask() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let spread = json!({ "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "web" } },
    }]});
    stage
        .apply(&[
            class("default", &json!({})),
            pool("general", &json!({})),
            deployment("web", 7, "600m", "512Mi", &spread),
        ])
        .await?;
    let mut zones: BTreeMap<String, usize> = BTreeMap::new();
    for pod in stage.pods_run("web", 7).await? {
        let node = stage.node(&node_of(&pod)).await?;
        let zone = node.metadata.labels.unwrap_or_default().remove("topology.kubernetes.io/zone").unwrap_or_default();
        *zones.entry(zone).or_default() += 1;
    }
    let mut counts: Vec<usize> = zones.values().copied().collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 3], "{zones:?}");
    Ok(())
}

/// Pods that arrive while their node is still on its way wait for it instead of asking for another.
#[tokio::test(flavor = "multi_thread")]
async fn pods_that_come_later_use_the_node_that_is_on_its_way() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.aws.tell("nodes", &json!({ "registration_seconds": 2.5 }))?;
    let app = |replicas: u32| deployment("app", replicas, "400m", "512Mi", &json!({}));
    stage.apply(&[class("default", &json!({})), pool("general", &json!({})), app(1)]).await?;
    stage
        .until("the claim is launched", SOON, async || {
            let claims = stage.claims("general").await?;
            let launched = claims.iter().any(|claim| is(claim, "Launched", "True"));
            Ok(Seen::holds(launched, claims.iter().map(told).collect::<Vec<_>>()))
        })
        .await?;
    stage.apply(&[app(4)]).await?;
    stage.pods_run("app", 4).await?;
    assert_eq!(stage.cluster.claims().await?.len(), 1, "4 × 400m fit on the m5.large that was bought for one");
    Ok(())
}
