#pragma once

#include <string_view>

/// An RFC 9068 access token signed with the key of RFC 8037 A.1; see SOURCE.md.
namespace postern::vectors {

inline constexpr std::string_view kAccessTokenClaims =
    R"({"act":{"sub":"gw-01"},"aud":"https://files.example.com/mcp","client_id":"gw-01",)"
    R"("exp":1790000300,"iat":1790000000,"iss":"https://sts.example.com/t/acme","jti":"0001",)"
    R"("scope":"files:read","sub":"user-42"})";
inline constexpr std::string_view kAccessToken =
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImtQcktfcW14VldhWVZBOXd3QkY2SXVvM3ZWeno3VHhIQ1R3WEJ5Z3JTNGsiLCJ0"
    "eXAiOiJhdCtqd3QifQ.eyJhY3QiOnsic3ViIjoiZ3ctMDEifSwiYXVkIjoiaHR0cHM6Ly9maWxlcy5leGFtcGxlLmNvb"
    "S9tY3AiLCJjbGllbnRfaWQiOiJndy0wMSIsImV4cCI6MTc5MDAwMDMwMCwiaWF0IjoxNzkwMDAwMDAwLCJpc3MiOiJod"
    "HRwczovL3N0cy5leGFtcGxlLmNvbS90L2FjbWUiLCJqdGkiOiIwMDAxIiwic2NvcGUiOiJmaWxlczpyZWFkIiwic3ViI"
    "joidXNlci00MiJ9.1cufeCwnumnvYFYdRbacVl9NMyTjdEiwTPxA_5rWo7TJZYP8TGrl4Jr1emz1c2d-uAk9FCeUIayX"
    "TE0Bkcm_Dg";

}  // namespace postern::vectors
