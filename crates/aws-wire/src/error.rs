//! The SDK's errors in our words.

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use karpenter_aws::report::CallError;
use std::error::Error;

/// An error that never left this process.
pub(crate) fn local(operation: &'static str, code: &str, message: String) -> CallError {
    CallError { operation, code: code.to_owned(), message, uncertain: false }
}

/// Turns an SDK error into ours. Uncertain is whatever may have reached the service without an
/// answer that says no.
pub(crate) fn of<E, R>(operation: &'static str) -> impl Fn(SdkError<E, R>) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug + 'static,
    SdkError<E, R>: Error,
{
    move |error| {
        let told = |code: &str, uncertain: bool| CallError {
            operation,
            code: code.to_owned(),
            message: chain(&error),
            uncertain,
        };
        match &error {
            SdkError::ConstructionFailure(_) => told("Construction", false),
            SdkError::TimeoutError(_) => told("Timeout", true),
            // A refused connection never carried the request.
            SdkError::DispatchFailure(failure) => told("Dispatch", !failure.is_user() && !refused(&error)),
            SdkError::ResponseError(_) => told("Response", true),
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or("Unknown").to_owned();
                let message = service.err().message().unwrap_or_default().to_owned();
                let uncertain = matches!(
                    code.as_str(),
                    "InternalError" | "InternalFailure" | "ServiceUnavailable" | "Unavailable" | "Unknown"
                );
                CallError { operation, code, message, uncertain }
            }
            _ => told("Unknown", true),
        }
    }
}

fn refused(error: &dyn Error) -> bool {
    chain(error).to_ascii_lowercase().contains("connection refused")
}

/// An error and its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
