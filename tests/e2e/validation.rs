//! Whether a class may be launched is tried before anybody needs it, and what was made for a class goes with it.

use karpenter_api::Ec2NodeClass;
use karpenter_harness::Seen;
use serde_json::{Value, json};

use crate::manifests::{app, class, pool};
use crate::stage::{SOON, Stage, told};

/// A condition of the class, once it has this status and reason and says all of these.
async fn class_says(stage: &Stage, kind: &str, status: &str, reason: &str, words: &[&str]) -> anyhow::Result<()> {
    stage
        .until(&format!("the class says {kind}={status} for {reason} with {words:?}"), SOON, async || {
            let all = stage.class("default").await?.status.and_then(|status| status.conditions).unwrap_or_default();
            let says = all.iter().find(|known| known.type_ == kind).is_some_and(|known| {
                known.status == status
                    && known.reason == reason
                    && words.iter().all(|word| known.message.contains(word))
            });
            Ok(Seen::holds(says, all))
        })
        .await
}

/// Each right is tried by itself: the condition names the one that lacks, no instance is asked for, and it heals.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_lacks_is_told_before_anybody_launches() -> anyhow::Result<()> {
    for (action, reason, matching) in [
        ("CreateLaunchTemplate", "CreateLaunchTemplateAuthCheckFailed", json!({})),
        ("CreateFleet", "CreateFleetAuthCheckFailed", json!({ "DryRun": "true" })),
        ("RunInstances", "RunInstancesAuthCheckFailed", json!({ "DryRun": "true" })),
    ] {
        let stage = Stage::set().await?;
        stage.aws.tell(
            "fault",
            &json!({
                "action": action, "kind": "error", "code": "UnauthorizedOperation", "count": null, "match": matching,
                "message": "You are not authorized to perform this operation.",
            }),
        )?;
        stage.apply(&[class("default", &json!({})), pool("general", &json!({})), app(&json!({}))]).await?;
        class_says(&stage, "ValidationSucceeded", "False", reason, &[action, "not authorized"]).await?;
        class_says(&stage, "Ready", "False", "UnhealthyDependents", &["ValidationSucceeded=False"]).await?;
        stage.pods_wait("app", &["nodepool"]).await?;
        assert!(stage.calls("CreateFleet")?.is_empty(), "nobody launches what would be refused");

        stage.aws.tell("fault", &json!({ "clear": true }))?;
        class_says(&stage, "ValidationSucceeded", "True", "ValidationSucceeded", &[]).await?;
        stage.pods_run("app", 1).await?;
    }
    Ok(())
}

/// An answer counts until what it depends on changes: a controller at rest tries nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_trial_is_made_once_and_leaves_nothing_behind() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    stage.apply(&[class("default", &json!({}))]).await?;
    class_says(&stage, "Ready", "True", "Ready", &[]).await?;
    stage.nothing_happens().await?;
    let made = stage.calls("CreateLaunchTemplate")?;
    assert_eq!(made.len(), 1, "{made:#?}");
    let left = stage.aws.ec2("DescribeLaunchTemplates", &[])?;
    assert!(!left.contains("karpenter.k8s.aws/"), "{left}");

    // Another size of volume is another template.
    let larger = json!({ "blockDeviceMappings": [{ "deviceName": "/dev/xvda", "ebs": { "volumeSize": "30Gi" } }] });
    stage.apply(&[class("default", &larger)]).await?;
    stage
        .until("it is tried again", SOON, async || {
            let made = stage.calls("CreateLaunchTemplate")?.len();
            Ok(Seen::holds(made == 2, made))
        })
        .await
}

/// What a class says wrongly is told in the words of its fields.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_launched_is_told_by_field() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let own = json!({ "instanceProfile": "nobody-made-this" });
    let cases: [(Value, &str, &[&str]); 7] = [
        (own, "InstanceProfileNotFound", &["spec.instanceProfile", "nobody-made-this"]),
        (json!({ "kubelet": { "maxPod": 3 } }), "InvalidKubeletConfiguration", &["spec.kubelet.maxPod", "unknown"]),
        (
            json!({ "kubelet": { "maxPods": "max_pods - 1" } }),
            "KubeletExpressionsDisabled",
            &["spec.kubelet.maxPods", "NodeClassCEL"],
        ),
        (
            json!({ "amiSelectorTerms": [{ "alias": "bottlerocket@latest" }], "kubelet": { "podPidsLimit": 9 } }),
            "UnsupportedKubeletConfiguration",
            &["spec.kubelet.podPidsLimit", "Bottlerocket"],
        ),
        (json!({ "userData": "x".repeat(17_000) }), "UserDataSizeLimitExceeded", &["spec.userData", "16384"]),
        (json!({ "userData": "MIME-Version: 1.0" }), "UserDataInvalid", &["spec.userData", "a body"]),
        (json!({ "placementGroupSelector": { "name": "no-such-group" } }), "DependenciesNotReady", &["waiting"]),
    ];
    for (spec, reason, words) in cases {
        let mut class = class("default", &spec);
        if spec.get("instanceProfile").is_some() {
            class["spec"].as_object_mut().map(|spec| spec.remove("role"));
        }
        stage.apply(&[class]).await?;
        class_says(&stage, "ValidationSucceeded", "False", reason, words).await?;
    }
    class_says(&stage, "PlacementGroupReady", "False", "PlacementGroupNotFound", &["no-such-group"]).await?;
    stage.aws.ec2("CreatePlacementGroup", &[("GroupName", "a-group")])?;
    stage.apply(&[class("default", &json!({ "placementGroupSelector": { "name": "a-group" } }))]).await?;
    class_says(&stage, "Ready", "True", "Ready", &[]).await
}

/// Another role makes another profile, running nodes keep theirs, and both go with the class.
#[tokio::test(flavor = "multi_thread")]
async fn profiles_of_a_class_follow_its_role_and_go_with_it() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    stage.apply(&[class("default", &json!({})), pool("general", &json!({})), app(&json!({}))]).await?;
    stage.pods_run("app", 1).await?;
    let profile = async || anyhow::Ok(stage.class("default").await?.status.and_then(|status| status.instance_profile));
    let first = profile().await?;
    let claim = stage.ready_claim("general").await?;
    let annotations = claim.metadata.annotations.clone().unwrap_or_default();
    assert_eq!(annotations.get("karpenter.k8s.aws/instance-profile-name"), first.as_ref(), "{}", told(&claim));

    stage.apply(&[class("default", &json!({ "role": "OtherNodeRole-dev" }))]).await?;
    stage
        .until("the class has another profile", SOON, async || {
            let now = profile().await?;
            Ok(Seen::holds(now.is_some() && now != first, now))
        })
        .await?;
    let profiles = || stage.aws.iam("ListInstanceProfiles", &[("PathPrefix", "/karpenter/us-west-2/dev/")]);
    let listed = profiles()?;
    assert_eq!(listed.matches("<InstanceProfileName>").count(), 2, "{listed}");
    // Written by the controller that was here before, for the same role: it is kept, not made anew.
    let roles = ["KarpenterNodeRole-dev", "OtherNodeRole-dev"];
    assert!(roles.iter().all(|role| listed.contains(&format!("<RoleName>{role}</RoleName>"))), "{listed}");

    stage.delete::<karpenter_api::NodePool>("general").await?;
    stage.delete::<Ec2NodeClass>("default").await?;
    stage.delete::<karpenter_api::NodeClaim>(crate::stage::name(&claim.metadata)).await?;
    stage
        .until("the class is gone with its profiles", SOON, async || {
            let classes = kube::Api::<Ec2NodeClass>::all(stage.cluster.client.clone());
            let left = (classes.get_opt("default").await?.is_some(), profiles()?);
            Ok(Seen::holds(!left.0 && !left.1.contains("<InstanceProfileName>"), left))
        })
        .await
}

/// A profile that an earlier controller made for the same role is used, whatever its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_is_there_already_is_used() -> anyhow::Result<()> {
    let mut stage = Stage::dark().await?;
    stage.apply(&[class("default", &json!({}))]).await?;
    let object = stage.class("default").await?;
    let path = format!("/karpenter/us-west-2/dev/{}/", object.metadata.uid.unwrap_or_default());
    let name = ("InstanceProfileName", "dev_made-before");
    stage.aws.iam("CreateInstanceProfile", &[name, ("Path", &path)])?;
    stage.aws.iam("AddRoleToInstanceProfile", &[name, ("RoleName", "KarpenterNodeRole-dev")])?;
    let status = json!({ "status": { "instanceProfile": "dev_made-before" } });
    kube::Api::<Ec2NodeClass>::all(stage.cluster.client.clone())
        .patch_status("default", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(status))
        .await?;
    stage.start()?;
    class_says(&stage, "Ready", "True", "Ready", &[]).await?;
    let status = stage.class("default").await?.status.unwrap_or_default();
    assert_eq!(status.instance_profile.as_deref(), Some("dev_made-before"));
    assert!(stage.calls("CreateInstanceProfile")?.len() == 1, "only the one that the test made");
    Ok(())
}
