#include "core/result.h"

namespace postern {

std::string_view to_string(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::MalformedRequest: return "MalformedRequest";
    case ErrorCode::InvalidToken: return "InvalidToken";
    case ErrorCode::InvalidGrant: return "InvalidGrant";
    case ErrorCode::InvalidClient: return "InvalidClient";
    case ErrorCode::InvalidDpopProof: return "InvalidDpopProof";
    case ErrorCode::UseDpopNonce: return "UseDpopNonce";
    case ErrorCode::InvalidAuthorizationDetails: return "InvalidAuthorizationDetails";
    case ErrorCode::InsufficientAuthentication: return "InsufficientAuthentication";
    case ErrorCode::UnauthorizedClient: return "UnauthorizedClient";
    case ErrorCode::UnsupportedGrant: return "UnsupportedGrant";
    case ErrorCode::TargetRefused: return "TargetRefused";
    case ErrorCode::ScopeRefused: return "ScopeRefused";
    case ErrorCode::InteractionRequired: return "InteractionRequired";
    case ErrorCode::Unauthenticated: return "Unauthenticated";
    case ErrorCode::Forbidden: return "Forbidden";
    case ErrorCode::NotFound: return "NotFound";
    case ErrorCode::Conflict: return "Conflict";
    case ErrorCode::PreconditionFailed: return "PreconditionFailed";
    case ErrorCode::TooLarge: return "TooLarge";
    case ErrorCode::RateLimited: return "RateLimited";
    case ErrorCode::NeedsDatabase: return "NeedsDatabase";
    case ErrorCode::NeedsOutbound: return "NeedsOutbound";
    case ErrorCode::Unavailable: return "Unavailable";
    case ErrorCode::KeyUnavailable: return "KeyUnavailable";
    case ErrorCode::TenantSealed: return "TenantSealed";
    case ErrorCode::Internal: return "Internal";
  }
  return "Internal";
}

}  // namespace postern
