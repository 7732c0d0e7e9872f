//! Why chronyd rejects a request.

/// The protocol's status codes other than success: why chronyd rejected a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts are the documentation")]
pub enum ChronyStatus {
    #[error("chronyd failed to execute it; its log has the reason")]
    Failed,
    #[error("chronyd does not take this command over UDP: use its Unix socket")]
    Unauthorized,
    #[error("chronyd does not know this command (\"reset sources\" needs chrony 4.0)")]
    Invalid,
    #[error("chronyd has no such source")]
    NoSuchSource,
    #[error("chronyd finds the timestamp invalid")]
    InvalidTimestamp,
    #[error("this is not enabled in chrony.conf")]
    NotEnabled,
    #[error("chronyd finds the subnet wrong")]
    BadSubnet,
    #[error("chronyd allows access")]
    AccessAllowed,
    #[error("chronyd denies access")]
    AccessDenied,
    #[error("chronyd allows no hosts")]
    NoHostAccess,
    #[error("chronyd has this source already")]
    SourceAlreadyKnown,
    #[error("chronyd has too many sources")]
    TooManySources,
    #[error("chronyd does not track the real-time clock")]
    NoRtc,
    #[error("chronyd cannot use its file on the real-time clock")]
    BadRtcFile,
    #[error("this is not active in chronyd")]
    Inactive,
    #[error("chronyd finds the sample wrong")]
    BadSample,
    #[error("chronyd does not use this address family")]
    InvalidAddressFamily,
    #[error("chronyd uses another version of the protocol")]
    BadPacketVersion,
    #[error("chronyd expects a request of another length")]
    BadPacketLength,
    #[error("chronyd rejected it with the unknown status {0}")]
    Other(u16),
}

impl ChronyStatus {
    /// From the code in a reply; `None` is success.
    pub fn from_code(code: u16) -> Option<Self> {
        const CODES: [ChronyStatus; 19] = [
            ChronyStatus::Failed,
            ChronyStatus::Unauthorized,
            ChronyStatus::Invalid,
            ChronyStatus::NoSuchSource,
            ChronyStatus::InvalidTimestamp,
            ChronyStatus::NotEnabled,
            ChronyStatus::BadSubnet,
            ChronyStatus::AccessAllowed,
            ChronyStatus::AccessDenied,
            ChronyStatus::NoHostAccess,
            ChronyStatus::SourceAlreadyKnown,
            ChronyStatus::TooManySources,
            ChronyStatus::NoRtc,
            ChronyStatus::BadRtcFile,
            ChronyStatus::Inactive,
            ChronyStatus::BadSample,
            ChronyStatus::InvalidAddressFamily,
            ChronyStatus::BadPacketVersion,
            ChronyStatus::BadPacketLength,
        ];
        let at = usize::from(code).checked_sub(1)?;
        Some(CODES.get(at).copied().unwrap_or(Self::Other(code)))
    }
}
