//! Every setting of Karpenter's, by environment and by flag, as the binary takes it.

#![cfg(test)]

use std::process::{Command, Output};

/// name, flag, type, default, source, meaning
const TABLE: &str = include_str!("settings.tsv");

struct Setting {
    env: &'static str,
    /// Without dashes; empty if it is set by the environment alone.
    flag: &'static str,
    kind: &'static str,
    default: &'static str,
}

fn settings() -> Vec<Setting> {
    let rows = TABLE.lines().skip(2).filter(|line| !line.starts_with("GATE "));
    rows.map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let env = cells[0].split(' ').next().unwrap_or_default();
        let default = cells[3].trim_matches('"');
        Setting { env, flag: cells[1].trim_start_matches('-'), kind: cells[2], default }
    })
    .collect()
}

fn karpenter(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_karpenter"));
    // Nothing is reached: settings are judged before anything is started.
    command.env_clear().env("KUBECONFIG", "/nonexistent").envs(environment.iter().copied()).args(arguments);
    command.output().expect("the binary starts")
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The paragraph of a flag in `--help`.
fn help_of(help: &str, flag: &str) -> String {
    let mut lines = help.lines().skip_while(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first().is_none_or(|first| first.split(['[', '=']).next() != Some(&format!("--{flag}")))
    });
    let first = lines.next().unwrap_or_default().to_owned();
    let rest = lines.take_while(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>();
    format!("{first} {}", rest.join(" ")).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn help_names_every_setting_with_its_variable_and_default() {
    let output = karpenter(&["--help"], &[]);
    assert!(output.status.success());
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = settings();
    assert!(all.len() > 30, "{}", all.len());
    for Setting { env, flag, default, .. } in all.iter().filter(|setting| !setting.flag.is_empty()) {
        let said = help_of(&help, flag);
        assert!(said.contains(&format!("[env: {env}=]")), "--{flag}: {said:?}");
        let told = said.split("[default: ").nth(1).map_or("", |rest| rest.split(']').next().unwrap_or_default());
        let expected = if *default == "REQUIRED" { "" } else { default };
        assert_eq!(told, expected, "--{flag}: {said:?}");
    }
}

/// A value that each type refuses.
fn malformed(setting: &Setting) -> Option<&'static str> {
    Some(match setting.kind {
        "int" | "int64" | "bool" | "float" | "duration" | "enum" | "map" => "nonsense",
        "csv" => ",",
        "url" => "no-url",
        "string(b64)" => "-----BEGIN",
        "yaml/json" => "{",
        "string" | "env" => return None,
        other => unreachable!("{}: no such type: {other}", setting.env),
    })
}

#[test]
fn a_malformed_value_stops_the_start_with_its_name_and_what_was_expected() {
    let mut refused = 0;
    for setting in settings() {
        let Some(wrong) = malformed(&setting) else { continue };
        let by_variable = karpenter(&[], &[("CLUSTER_NAME", "dev"), (setting.env, wrong)]);
        let by_flag = karpenter(&["--cluster-name=dev", &format!("--{}={wrong}", setting.flag)], &[]);
        for output in [by_variable, by_flag] {
            let said = told(&output);
            assert!(!output.status.success(), "{}={wrong} was taken", setting.env);
            let named = said.contains(setting.env) && said.contains(&format!("--{}", setting.flag));
            assert!(named && said.contains("expected"), "{}={wrong}: {said}", setting.env);
            assert!(!said.contains("API server"), "{}: it went on: {said}", setting.env);
        }
        refused += 1;
    }
    assert!(refused >= 25, "{refused}");
}

/// Values as Karpenter's users write them.
#[test]
fn well_formed_values_are_taken() {
    for arguments in [
        ["--isolated-vpc", "--eks-control-plane=T"],
        ["--disable-leader-election=1", "--enable-profiling=False"],
        ["--batch-max-duration=1m30s", "--batch-idle-duration=500ms"],
        ["--ami-refresh-interval=1h", "--subnet-refresh-interval=60s"],
        ["--feature-gates=NodeRepair=true,NoSuchGate=true", "--aws-feature-gates="],
        ["--memory-limit=-1", "--cpu-requests=0"],
        ["--preference-policy=Ignore", "--min-values-policy=BestEffort"],
        ["--vm-memory-overhead-percent=0", "--reserved-enis=1"],
        ["--cluster-endpoint=https://a.example.com", "--cluster-ca-bundle=LS0tLQ=="],
        ["--log-level=error", "--log-output-paths=stderr,stdout"],
    ] {
        let output = karpenter(&[&["--cluster-name=dev"], &arguments[..]].concat(), &[]);
        let said = told(&output);
        assert!(said.contains("no way to the API server"), "{arguments:?}: {said}");
    }
}

#[test]
fn values_out_of_range_and_names_that_are_none_are_refused() {
    for (environment, words) in [
        (("CLUSTER_NAME", ""), ["CLUSTER_NAME", "expected the name"]),
        (("AMI_REFRESH_INTERVAL", "59s"), ["AMI_REFRESH_INTERVAL", "at least 1m"]),
        (("SUBNET_REFRESH_INTERVAL", "1s"), ["SUBNET_REFRESH_INTERVAL", "at least 1m"]),
        (("VM_MEMORY_OVERHEAD_PERCENT", "-0.1"), ["VM_MEMORY_OVERHEAD_PERCENT", "from 0 up to 1"]),
        (("RESERVED_ENIS", "-1"), ["RESERVED_ENIS", "0 or more"]),
        (("METRICS_PORT", "70000"), ["METRICS_PORT", "65535"]),
        (("BATCH_IDLE_DURATON", "2s"), ["BATCH_IDLE_DURATON", "expected BATCH_IDLE_DURATION"]),
        (("KARPENTER_CLUSTER_NAME", "x"), ["KARPENTER_CLUSTER_NAME", "expected CLUSTER_NAME"]),
    ] {
        let output = karpenter(&[], &[("CLUSTER_NAME", "dev"), environment]);
        let said = told(&output);
        assert!(!output.status.success() && words.iter().all(|word| said.contains(word)), "{environment:?}: {said}");
    }
    let said = told(&karpenter(&["--cluster-name=dev", "--no-such-setting=1"], &[]));
    assert!(said.contains("--no-such-setting"), "{said}");
}

/// A flag wins over the environment, as in Karpenter.
#[test]
fn a_flag_wins_over_the_environment() {
    let said =
        told(&karpenter(&["--cluster-name=dev", "--batch-idle-duration=1s"], &[("BATCH_IDLE_DURATION", "nonsense")]));
    assert!(said.contains("no way to the API server"), "{said}");
}
