#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "token/json.h"

/// Which tools of an MCP server may be used: as policy says it in roles, and as
/// requests and tokens say it in authorization details (RFC 9396).
namespace postern::policy {

/// `backend:tool:action`. The backend is a name or `*`; the tool a name in which
/// `*` stands for any characters, none included; the action a word or `*`. Read
/// also as `mcp:backend:tool:action`, and written in the one form above.
struct ToolPermission {
  std::string backend;
  std::string tool;
  std::string action;
  /// Errors: MalformedRequest.
  static Result<ToolPermission> parse(std::string_view text);
  bool operator==(const ToolPermission&) const = default;
  std::string str() const { return backend + ":" + tool + ":" + action; }
};

/// One authorization detail of type `mcp_tool`:
///
///   {"type": "mcp_tool", "locations": ["https://files.example.com/mcp"],
///    "actions": ["call"], "identifier": "read_*", "constraints": {"path": ["/a", "/b"]}}
///
/// identifier   a tool's name, or a pattern with `*`; required
/// actions      1 to 16 words (`call` is tools/call), or `*`; required
/// locations    at most 8 URIs or names of the backend; absent: the token's audience
/// constraints  at most 16 arguments of the tool, each with the 1 to 32 values
///              that it may have
///
/// It limits: a token with details is good for these tools only, and within
/// one detail every constraint holds.
struct ToolDetail {
  std::vector<std::string> locations;
  std::vector<std::string> actions;  ///< sorted
  std::string identifier;
  std::map<std::string, std::vector<std::string>> constraints;  ///< values sorted
  bool operator==(const ToolDetail&) const = default;
};
using ToolDetails = std::vector<ToolDetail>;

inline constexpr std::string_view kToolDetailType = "mcp_tool";
inline constexpr std::size_t kMaxToolDetails = 32;
inline constexpr std::size_t kMaxToolDetailsBytes = 8 * 1024;

/// The `authorization_details` parameter. Errors: InvalidAuthorizationDetails for
/// what is not a list of 1 to 32 well-formed details of the one type, for unknown
/// or repeated members, and beyond 8 KiB.
Result<ToolDetails> parse_tool_details(std::string_view text);
Result<ToolDetails> read_tool_details(const token::Json& value);
token::Json write(const ToolDetails& details);

/// Whether every tool that `inner` matches is matched by `outer`.
bool tool_within(std::string_view inner, std::string_view outer);

/// Whether the details allow at least what `wanted` does, locations aside: for
/// each of its actions one of them covers tool and constraints.
bool covers(const ToolDetails& details, const ToolDetail& wanted);

/// What both allow, pair by pair. Where two patterns overlap and neither lies
/// within the other nothing is left of the pair: rather less than more.
ToolDetails intersect(const ToolDetails& one, const ToolDetails& other);

}  // namespace postern::policy
