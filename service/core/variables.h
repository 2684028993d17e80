#pragma once

#include <string_view>

/// Names of environment variables, sorted by what they do to a program that is
/// started with them. The service refuses such names in a manifest, and
/// `postern exec` in what it is given.
namespace postern {

/// Whether a child of `postern exec` gets this variable of its parent:
/// PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TERM TZ TMPDIR XDG_RUNTIME_DIR.
bool inherited_variable(std::string_view name);

/// Whether a value under this name could take over a child: choose the code it
/// loads, the programs it starts, the servers it talks to or the certificates
/// it trusts. In either case of letters, as some programs read them.
///
/// Every program may invent a further one, so this list cannot be complete: it
/// knows the shells, runtimes and tools that MCP servers are made of. See
/// docs/threat-model.md.
bool hijacking_variable(std::string_view name);

/// Whether this variable names a file that may say which programs to start, and
/// whose purpose is a credential all the same (KUBECONFIG). Such a file is safe
/// as long as no user can put a text of their own into it.
bool names_a_steering_file(std::string_view name);

}  // namespace postern
