#include "policy/tools.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/text.h"
#include "policy/config_reader.h"

namespace postern::policy {

using token::Json;

namespace {

constexpr std::size_t kMaxText = 256;

Error refused(std::string detail) {
  return fail(ErrorCode::InvalidAuthorizationDetails, std::move(detail));
}

bool letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// A tool's name as MCP has them, `*` for any characters.
bool is_tool_pattern(std::string_view text) {
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](char c) {
    return letter_or_digit(c) || std::string_view("_-./*").find(c) != std::string_view::npos;
  });
}

bool is_action(std::string_view text) {
  return text == "*" ||
         (!text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || c == '_' || c == '-' || c == '/';
         }));
}

bool is_printable(std::string_view text) {
  return !text.empty() && text.size() <= kMaxText && !has_control_characters(text);
}

/// A list of texts, sorted and without repeats.
Result<std::vector<std::string>> texts(const Json& value, std::size_t at_least,
                                       std::size_t at_most) {
  if (!value.is_array() || value.size() < at_least || value.size() > at_most) {
    return refused("an authorization detail has a list of the wrong type or length");
  }
  std::vector<std::string> out;
  for (const auto& item : value) {
    if (!item.is_string() || !is_printable(item.get_ref<const std::string&>())) {
      return refused("an authorization detail has a list with a value of the wrong form");
    }
    out.push_back(item.get<std::string>());
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Result<ToolDetail> read_detail(const Json& value) {
  if (!value.is_object()) return refused("an authorization detail must be an object");
  const auto type = value.find("type");
  if (type == value.end() || *type != Json(kToolDetailType)) {
    return refused("the only authorization_details type here is mcp_tool");
  }
  ToolDetail detail;
  for (const auto& [name, member] : value.items()) {
    if (name == "type") continue;
    if (name == "identifier") {
      if (!member.is_string() || !is_tool_pattern(member.get_ref<const std::string&>())) {
        return refused("identifier must be the name of a tool, with * for any characters");
      }
      detail.identifier = member.get<std::string>();
    } else if (name == "actions") {
      POSTERN_TRY(detail.actions, texts(member, 1, 16));
      if (!std::all_of(detail.actions.begin(), detail.actions.end(), is_action)) {
        return refused("actions must be words such as call, or *");
      }
    } else if (name == "locations") {
      POSTERN_TRY(detail.locations, texts(member, 1, 8));
    } else if (name == "constraints") {
      if (!member.is_object() || member.size() > 16) {
        return refused("constraints must be an object of at most 16 arguments");
      }
      for (const auto& [argument, values] : member.items()) {
        if (!is_printable(argument)) return refused("constraints has an argument without a name");
        POSTERN_TRY(detail.constraints[argument], texts(values, 1, 32));
      }
    } else {
      return refused("an authorization detail has an unknown member");
    }
  }
  if (detail.identifier.empty()) return refused("an authorization detail needs an identifier");
  if (detail.actions.empty()) return refused("an authorization detail needs actions");
  return detail;
}

bool has_action(const ToolDetail& detail, const std::string& action) {
  return std::any_of(detail.actions.begin(), detail.actions.end(),
                     [&](const std::string& own) { return own == "*" || own == action; });
}

/// Whether every call that `inner` allows meets the constraints of `outer`.
bool constrained_within(const ToolDetail& inner, const ToolDetail& outer) {
  return std::all_of(outer.constraints.begin(), outer.constraints.end(), [&](const auto& limit) {
    const auto own = inner.constraints.find(limit.first);
    return own != inner.constraints.end() && std::includes(limit.second.begin(), limit.second.end(),
                                                           own->second.begin(), own->second.end());
  });
}

}  // namespace

Result<ToolPermission> ToolPermission::parse(std::string_view text) {
  // Four parts are the other spelling. Three that begin with `mcp` are a backend
  // of that name, and nothing here has a colon within, so no text means both.
  constexpr std::string_view kMcp = "mcp:";
  if (text.substr(0, kMcp.size()) == kMcp && std::count(text.begin(), text.end(), ':') == 3) {
    text.remove_prefix(kMcp.size());
  }
  const auto first = text.find(':');
  const auto last = text.rfind(':');
  if (first == std::string_view::npos || first == last) {
    return fail(ErrorCode::MalformedRequest,
                "must have the form backend:tool:action or mcp:backend:tool:action");
  }
  ToolPermission permission{std::string(text.substr(0, first)),
                            std::string(text.substr(first + 1, last - first - 1)),
                            std::string(text.substr(last + 1))};
  if (permission.backend != "*" && !detail::is_slug(permission.backend)) {
    return fail(ErrorCode::MalformedRequest, "must begin with a backend name or *");
  }
  if (!is_tool_pattern(permission.tool)) {
    return fail(ErrorCode::MalformedRequest, "must name a tool, with * for any characters");
  }
  if (!is_action(permission.action)) {
    return fail(ErrorCode::MalformedRequest, "must end with an action such as call, or *");
  }
  return permission;
}

Result<ToolDetails> parse_tool_details(std::string_view text) {
  if (text.size() > kMaxToolDetailsBytes) return refused("authorization_details is too long");
  const auto json = token::parse_json(text, {kMaxToolDetailsBytes, 6, 5000});
  if (!json.ok()) return refused("authorization_details is not well-formed JSON");
  return read_tool_details(json.value());
}

Result<ToolDetails> read_tool_details(const Json& value) {
  if (!value.is_array() || value.empty() || value.size() > kMaxToolDetails) {
    return refused("authorization_details must be a list of 1 to 32 objects");
  }
  ToolDetails details;
  for (const auto& item : value) {
    POSTERN_TRY(auto detail, read_detail(item));
    details.push_back(std::move(detail));
  }
  return details;
}

Json write(const ToolDetails& details) {
  Json out = Json::array();
  for (const auto& detail : details) {
    Json item{
        {"type", kToolDetailType}, {"identifier", detail.identifier}, {"actions", detail.actions}};
    if (!detail.locations.empty()) item["locations"] = detail.locations;
    if (!detail.constraints.empty()) item["constraints"] = detail.constraints;
    out.push_back(std::move(item));
  }
  return out;
}

bool tool_within(std::string_view inner, std::string_view outer) {
  // Match `inner` as text, its `*` a character that only a `*` of `outer` takes:
  // then whatever stands in its place is taken there as well. Linear space and
  // no backtracking beyond the last star.
  std::size_t at = 0;
  std::size_t pattern = 0;
  std::size_t star = std::string_view::npos;
  std::size_t retry = 0;
  while (at < inner.size()) {
    if (pattern < outer.size() && outer[pattern] == '*') {
      star = pattern++;
      retry = at;
    } else if (pattern < outer.size() && inner[at] != '*' && outer[pattern] == inner[at]) {
      ++pattern;
      ++at;
    } else if (star != std::string_view::npos) {
      pattern = star + 1;
      at = ++retry;
    } else {
      return false;
    }
  }
  while (pattern < outer.size() && outer[pattern] == '*') ++pattern;
  return pattern == outer.size();
}

bool covers(const ToolDetails& details, const ToolDetail& wanted) {
  return std::all_of(wanted.actions.begin(), wanted.actions.end(), [&](const std::string& action) {
    return std::any_of(details.begin(), details.end(), [&](const ToolDetail& detail) {
      return has_action(detail, action) && tool_within(wanted.identifier, detail.identifier) &&
             constrained_within(wanted, detail);
    });
  });
}

ToolDetails intersect(const ToolDetails& one, const ToolDetails& other) {
  ToolDetails out;
  for (const auto& a : one) {
    for (const auto& b : other) {
      ToolDetail both;
      if (tool_within(a.identifier, b.identifier)) {
        both.identifier = a.identifier;
      } else if (tool_within(b.identifier, a.identifier)) {
        both.identifier = b.identifier;
      } else {
        continue;
      }
      for (const auto& action : a.actions) {
        if (has_action(b, action)) both.actions.push_back(action);
      }
      for (const auto& action : b.actions) {
        if (has_action(a, action)) both.actions.push_back(action);
      }
      std::sort(both.actions.begin(), both.actions.end());
      both.actions.erase(std::unique(both.actions.begin(), both.actions.end()), both.actions.end());
      both.constraints = a.constraints;
      bool possible = !both.actions.empty();
      for (const auto& [argument, values] : b.constraints) {
        const auto own = both.constraints.find(argument);
        if (own == both.constraints.end()) {
          both.constraints.emplace(argument, values);
          continue;
        }
        std::vector<std::string> left;
        std::set_intersection(own->second.begin(), own->second.end(), values.begin(), values.end(),
                              std::back_inserter(left));
        possible = possible && !left.empty();
        own->second = std::move(left);
      }
      if (possible && std::find(out.begin(), out.end(), both) == out.end()) {
        out.push_back(std::move(both));
      }
    }
  }
  return out;
}

}  // namespace postern::policy
