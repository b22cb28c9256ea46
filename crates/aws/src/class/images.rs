//! Images: `spec.amiSelectorTerms` → `status.amis`, `AMIsReady`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use karpenter_api::ec2nodeclass::{AmiRequirement, AmiSelectorTerm, AmiStatus, Ec2NodeClassStatus};
use karpenter_api::labels as keys;

use super::status::{Verdict, nothing};
use super::{Answer, Class, NOTHING_EVERY, Need, filters, had_at, known, learn};
use crate::call::{Call, ImageQuery};
use crate::labels::architecture;
use crate::report::{CallError, Cluster, Image, Images};
use crate::{AwsSettings, ami};

const EVERY: SignedDuration = SignedDuration::from_mins(5);

impl Class {
    pub(super) fn need_images(&self, settings: &AwsSettings, kubernetes: &str) -> Need {
        let parameters = self.parameters(kubernetes).into_iter().map(|parameter| parameter.name).collect();
        let queries = self.object.spec.ami_selector_terms.iter().filter_map(image_query).collect();
        let (class, generation) = (self.name().to_owned(), self.generation());
        let call = Call::Images { class, generation, parameters, queries };
        let none = self.images.as_ref().is_some_and(|a| a.result.as_ref().is_ok_and(|found| found.images.is_empty()));
        let every = settings.ami_refresh.max(if none { NOTHING_EVERY } else { EVERY });
        Need { verb: "images", had: had_at(self.images.as_ref()), every, call }
    }

    pub(crate) fn learn_images(&mut self, at: Timestamp, result: Result<Images, CallError>) {
        learn(&mut self.images, at, result);
    }

    /// The SSM parameters of the class and the kinds of nodes their images are for.
    fn parameters(&self, kubernetes: &str) -> Vec<ami::Parameter> {
        let terms = &self.object.spec.ami_selector_terms;
        let aliases = terms.iter().filter_map(ami::alias);
        let of_aliases = aliases.flat_map(|alias| ami::parameters(&alias, kubernetes));
        let own = terms
            .iter()
            .filter_map(|term| Some(ami::Parameter { name: term.ssm_parameter.clone()?, fits: Vec::new() }));
        of_aliases.chain(own).collect()
    }

    pub(super) fn judge_images(
        &self,
        cluster: Option<&Cluster>,
        now: Timestamp,
        status: &mut Ec2NodeClassStatus,
    ) -> Verdict {
        let terms = &self.object.spec.ami_selector_terms;
        let amis = cluster.map(|cluster| self.amis(&cluster.version, now)).unwrap_or_default();
        let nothing_fits = amis.is_empty();
        if self.images.is_some() && cluster.is_some() {
            status.amis = (!nothing_fits).then_some(amis);
        }
        if let Some(Err(unsupported)) = cluster.map(|cluster| ami::check_alias(terms, &cluster.version)) {
            return Verdict::wrong("UnsupportedAlias", unsupported.to_string());
        }
        match known(self.images.as_ref()).filter(|_| cluster.is_some()) {
            Some(Ok(_)) if nothing_fits => nothing("AMINotFound", "spec.amiSelectorTerms resolved to no image", terms),
            other => Verdict::of(other),
        }
    }

    /// The images that were found, newest first, each with the nodes it fits.
    fn amis(&self, kubernetes: &str, now: Timestamp) -> Vec<AmiStatus> {
        let Some(Answer { result: Ok(found), .. }) = &self.images else {
            return Vec::new();
        };
        let mut all = self.fitting(kubernetes, found);
        // Per kind of node: what is not deprecated before what is, then the newest, then the last by name.
        let deprecated = |image: &Image| image.deprecated.is_some_and(|at| at <= now);
        all.sort_by(|(a, _), (b, _)| {
            let newest = deprecated(a).cmp(&deprecated(b)).then_with(|| b.created.cmp(&a.created));
            newest.then_with(|| b.name.cmp(&a.name)).then_with(|| a.id.cmp(&b.id))
        });
        let mut kept: Vec<(&Image, Vec<AmiRequirement>)> = Vec::new();
        for (image, requirements) in all {
            if !kept.iter().any(|(_, known)| *known == requirements) {
                kept.push((image, requirements));
            }
        }
        kept.sort_by(|(a, _), (b, _)| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        kept.into_iter()
            .map(|(image, requirements)| AmiStatus {
                id: image.id.clone(),
                deprecated: deprecated(image).then_some(true),
                name: Some(image.name.clone()),
                requirements,
            })
            .collect()
    }

    /// Every image with every kind of node it is for: as its alias knows, else by its architecture. Machines of other
    /// architectures are no nodes.
    fn fitting<'a>(&self, kubernetes: &str, found: &'a Images) -> Vec<(&'a Image, Vec<AmiRequirement>)> {
        let by_id: BTreeMap<&str, &Image> = found.images.iter().map(|image| (image.id.as_str(), image)).collect();
        let mut all: Vec<(&Image, Vec<AmiRequirement>)> = Vec::new();
        let mut named: Vec<&str> = Vec::new();
        for parameter in self.parameters(kubernetes) {
            let id = found.parameters.get(&parameter.name).map(String::as_str);
            let Some(image) = id.and_then(|id| by_id.get(id)) else {
                continue;
            };
            named.push(&image.id);
            if parameter.fits.is_empty() {
                all.extend(of_architecture(image).map(|requirements| (*image, requirements)));
            }
            all.extend(parameter.fits.into_iter().map(|requirements| (*image, requirements)));
        }
        let others = found.images.iter().filter(|image| !named.contains(&image.id.as_str()));
        all.extend(others.filter_map(|image| Some((image, of_architecture(image)?))));
        all
    }
}

fn of_architecture(image: &Image) -> Option<Vec<AmiRequirement>> {
    Some(vec![ami::one_of(keys::ARCH, architecture(&image.architecture)?)])
}

/// Aliases and SSM parameters are asked elsewhere.
fn image_query(term: &AmiSelectorTerm) -> Option<ImageQuery> {
    if term.alias.is_some() || term.ssm_parameter.is_some() {
        return None;
    }
    let mut filters = filters(term.tags.as_ref(), &[("name", term.name.as_ref())]);
    filters.insert("state".to_owned(), vec!["available".to_owned()]);
    // Without an owner, a name could be anybody's.
    let owners = match (&term.owner, &term.name) {
        (Some(owner), _) => vec![owner.clone()],
        (None, Some(_)) => vec!["self".to_owned(), "amazon".to_owned()],
        (None, None) => Vec::new(),
    };
    Some(ImageQuery { ids: term.id.iter().cloned().collect(), owners, filters })
}
