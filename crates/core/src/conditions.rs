//! Reading and writing condition lists; names and reasons are `karpenter_api::conditions`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
pub use karpenter_api::conditions::Condition;

use crate::fact::About;
use crate::{Fact, Timestamp};

pub fn get<'a>(list: Option<&'a [Condition]>, condition: &str) -> Option<&'a Condition> {
    list.unwrap_or_default().iter().find(|known| known.type_ == condition)
}

pub fn is_true(list: Option<&[Condition]>, condition: &str) -> bool {
    get(list, condition).is_some_and(|known| known.status == "True")
}

/// Sets a condition. The transition time moves only when the status does.
pub fn set(
    list: &mut Vec<Condition>,
    condition: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let since = list.iter().find(|known| known.type_ == condition && known.status == status);
    let condition = Condition {
        type_: condition.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since.map_or_else(|| Time(now), |known| known.last_transition_time.clone()),
    };
    match list.iter_mut().find(|known| known.type_ == condition.type_) {
        Some(known) => *known = condition,
        None => list.push(condition),
    }
}

/// Takes a condition away, if it is there.
pub fn clear(list: &mut Vec<Condition>, condition: &str) {
    list.retain(|known| known.type_ != condition);
}

/// The conditions whose status is another than before. One that was not there before has not turned.
pub fn turned(object: &About, before: Option<&[Condition]>, after: Option<&[Condition]>) -> Vec<Fact> {
    let turned = after.unwrap_or_default().iter().filter_map(|new| {
        let old = get(before, &new.type_).filter(|old| old.status != new.status)?;
        Some(Fact::ConditionChanged {
            object: object.clone(),
            condition: new.type_.clone(),
            before: old.status.clone(),
            status: new.status.clone(),
            reason: new.reason.clone(),
            message: new.message.clone(),
        })
    });
    turned.collect()
}
