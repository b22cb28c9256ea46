//! Custom: the user's text as it is. Joining, and the taint `karpenter.sh/unregistered:NoExecute`
//! with it, is the user's business.

use super::Bootstrap;

pub(super) fn user_data(bootstrap: &Bootstrap<'_>) -> String {
    bootstrap.custom.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::bootstrap;
    use super::*;

    #[test]
    fn the_text_is_untouched() {
        assert_eq!(user_data(&bootstrap(Some(" #!/bin/sh\n\n"))), " #!/bin/sh\n\n");
        assert_eq!(user_data(&bootstrap(None)), "");
    }
}
