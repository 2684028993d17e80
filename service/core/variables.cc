#include "core/variables.h"

#include <algorithm>
#include <array>
#include <string>

namespace postern {
namespace {

using namespace std::string_view_literals;

constexpr std::array kInherited{"PATH"sv,  "HOME"sv,   "USER"sv,           "LOGNAME"sv,
                                "SHELL"sv, "LANG"sv,   "LANGUAGE"sv,       "TERM"sv,
                                "TZ"sv,    "TMPDIR"sv, "XDG_RUNTIME_DIR"sv};

// Each of them can name a command: exec plugins, credential_process.
constexpr std::array kSteeringFiles{"KUBECONFIG"sv, "AWS_CONFIG_FILE"sv,
                                    "AWS_SHARED_CREDENTIALS_FILE"sv};

constexpr std::array kNames{
    // shells
    "IFS"sv, "ENV"sv, "SHELLOPTS"sv, "BASHOPTS"sv, "PS0"sv, "PS1"sv, "PS2"sv, "PS4"sv,
    "PROMPT_COMMAND"sv, "CDPATH"sv, "GLOBIGNORE"sv, "EXECIGNORE"sv, "ZDOTDIR"sv, "FPATH"sv,
    "MODULE_PATH"sv, "INPUTRC"sv, "HISTFILE"sv, "FCEDIT"sv, "PSMODULEPATH"sv, "COMSPEC"sv,
    "PATHEXT"sv, "PWD"sv, "OLDPWD"sv,
    // the C library, and other folders that programs rely on
    "GCONV_PATH"sv, "GETCONF_DIR"sv, "LOCPATH"sv, "NLSPATH"sv, "HOSTALIASES"sv, "LOCALDOMAIN"sv,
    "RES_OPTIONS"sv, "RESOLV_HOST_CONF"sv, "NIS_PATH"sv, "TZDIR"sv, "TERMCAP"sv, "TERMPATH"sv,
    "MEMUSAGE_OUTPUT"sv, "PCPROFILE_OUTPUT"sv, "SOTRUSS_OUTNAME"sv, "LIBPATH"sv, "SHLIB_PATH"sv,
    "TMP"sv, "TEMP"sv, "TEMPDIR"sv, "USERPROFILE"sv, "APPDATA"sv, "LOCALAPPDATA"sv, "PROGRAMDATA"sv,
    "SYSTEMROOT"sv, "WINDIR"sv,
    // language runtimes
    "_JAVA_OPTIONS"sv, "CLASSPATH"sv, "JRE_HOME"sv, "M2_HOME"sv, "PHPRC"sv, "PHP_INI_SCAN_DIR"sv,
    "COMPOSER"sv, "COMPOSER_HOME"sv, "COMPOSER_VENDOR_DIR"sv, "COMPOSER_BIN_DIR"sv, "IRBRC"sv,
    "RAKEOPT"sv, "TRUFFLERUBYOPT"sv, "DJANGO_SETTINGS_MODULE"sv, "FLASK_APP"sv,
    "GUNICORN_CMD_ARGS"sv, "MPLBACKEND"sv, "MPLCONFIGDIR"sv, "VIRTUAL_ENV"sv, "GHCRTS"sv,
    "SBCL_HOME"sv, "SBCL_CORE"sv, "PLTCOLLECTS"sv, "PLTADDONDIR"sv, "PLTUSERHOME"sv,
    "ESCRIPT_EMULATOR"sv, "TK_LIBRARY"sv, "TCLLIBPATH"sv, "DART_VM_OPTIONS"sv, "PUB_CACHE"sv,
    "PUB_HOSTED_URL"sv, "AWKPATH"sv, "AWKLIBPATH"sv, "MONO_PATH"sv, "BABEL_ENV"sv,
    "ESBUILD_BINARY_PATH"sv, "CHROME_PATH"sv, "CHROME_BIN"sv,
    // what builds programs
    "CC"sv, "CXX"sv, "CPP"sv, "LD"sv, "AR"sv, "AS"sv, "NM"sv, "RANLIB"sv, "STRIP"sv, "OBJCOPY"sv,
    "FC"sv, "F77"sv, "LEX"sv, "YACC"sv, "M4"sv, "M4PATH"sv, "AUTOCONF"sv, "AUTOHEADER"sv,
    "AUTOM4TE"sv, "AUTOMAKE"sv, "LIBTOOL"sv, "CONFIG_SITE"sv, "CONFIG_SHELL"sv, "LDLIBS"sv,
    "LOADLIBES"sv, "CPATH"sv, "C_INCLUDE_PATH"sv, "CPLUS_INCLUDE_PATH"sv, "OBJC_INCLUDE_PATH"sv,
    "LIBRARY_PATH"sv, "COMPILER_PATH"sv,
    // programs that others start
    "EDITOR"sv, "VISUAL"sv, "PAGER"sv, "BROWSER"sv, "SSH_AUTH_SOCK"sv, "SSH_ASKPASS_REQUIRE"sv,
    "SSH_SK_PROVIDER"sv, "SSH_SK_HELPER"sv, "SSH_PKCS11_HELPER"sv, "GNUPGHOME"sv,
    "GPG_AGENT_INFO"sv, "MANPATH"sv, "MANOPT"sv, "INFOPATH"sv, "GREP_OPTIONS"sv, "TAR_OPTIONS"sv,
    "RSH"sv, "CVS_RSH"sv, "SVN_SSH"sv, "HG"sv, "HGRCPATH"sv, "HGMERGE"sv, "WGETRC"sv, "PSQLRC"sv,
    "RIPGREP_CONFIG_PATH"sv, "VIMINIT"sv, "GVIMINIT"sv, "EXINIT"sv, "MYVIMRC"sv, "VIM"sv,
    "VIMRUNTIME"sv, "HELM_PLUGINS"sv, "HELM_BIN"sv, "HELM_CONFIG_HOME"sv, "HELM_DATA_HOME"sv,
    "TF_DATA_DIR"sv, "TF_PLUGIN_CACHE_DIR"sv, "TERRAFORM_CONFIG"sv, "AZURE_CONFIG_DIR"sv,
    "AZURE_EXTENSION_DIR"sv, "CLOUDSDK_CONFIG"sv, "CLOUDSDK_ROOT_DIR"sv,
    "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"sv, "CONTAINER_HOST"sv, "CONTAINERS_CONF"sv,
    "CONTAINERS_STORAGE_CONF"sv, "CONTAINERS_REGISTRIES_CONF"sv,
    // libraries that load others, or talk to the session's services
    "DISPLAY"sv, "XAUTHORITY"sv, "ICEAUTHORITY"sv, "SESSION_MANAGER"sv, "GI_TYPELIB_PATH"sv,
    "VK_ICD_FILENAMES"sv, "VK_DRIVER_FILES"sv, "VK_INSTANCE_LAYERS"sv, "OCL_ICD_VENDORS"sv,
    "GS_LIB"sv, "GS_OPTIONS"sv, "LADSPA_PATH"sv, "SASL_PATH"sv, "SASL_CONF_PATH"sv, "ORACLE_HOME"sv,
    "ORACLE_BASE"sv, "TNS_ADMIN"sv, "MYSQL_HOME"sv, "PGSYSCONFDIR"sv, "PGSERVICEFILE"sv,
    "PKCS11_PROVIDER_MODULE"sv, "PKCS11_MODULE_PATH"sv, "OPENSC_CONF"sv, "SOFTHSM2_CONF"sv,
    "NOTIFY_SOCKET"sv, "CREDENTIALS_DIRECTORY"sv,
    // whom the child talks to, and whom it trusts
    "SSL_CERT_FILE"sv, "SSL_CERT_DIR"sv, "SSLKEYLOGFILE"sv, "CURL_HOME"sv, "KRB5_CONFIG"sv,
    "KRB5_KDC_PROFILE"sv, "KRB5_TRACE"sv, "GSS_MECH_CONFIG"sv, "LDAPCONF"sv, "LDAPRC"sv};

constexpr std::array kPrefixes{
    // loaders, shells, allocators, sessions
    "LC_"sv, "LD_"sv, "DYLD_"sv, "GLIBC_"sv, "MALLOC_"sv, "_RJEM_"sv, "TERMINFO"sv, "BASH_"sv,
    "FISH_"sv, "XDG_"sv, "DBUS_"sv, "SYSTEMD_"sv, "LISTEN_"sv, "WAYLAND_"sv, "POSTERN_"sv,
    "SEGFAULT_"sv, "DEBUGINFOD_"sv,
    // language runtimes and their package managers
    "PYTHON"sv, "PIP_"sv, "PIPX_"sv, "PIPENV_"sv, "UV_"sv, "POETRY_"sv, "PDM_"sv, "HATCH_"sv,
    "CONDA"sv, "MAMBA_"sv, "VIRTUALENV_"sv, "PYENV_"sv, "PYTEST_"sv, "JUPYTER_"sv, "IPYTHON"sv,
    "NUMBA_"sv, "CELERY_"sv, "UVICORN_"sv, "UWSGI_"sv, "NODE_"sv, "NPM_CONFIG_"sv, "YARN_"sv,
    "PNPM_"sv, "COREPACK_"sv, "BUN_"sv, "DENO_"sv, "NVM_"sv, "VOLTA_"sv, "FNM_"sv, "TS_NODE"sv,
    "TSX_"sv, "ELECTRON_"sv, "PLAYWRIGHT_"sv, "PUPPETEER_"sv, "PRISMA_"sv, "PERL"sv, "RUBY"sv,
    "GEM_"sv, "BUNDLE_"sv, "BUNDLER_"sv, "RBENV_"sv, "RVM_"sv, "JRUBY_"sv, "JAVA_"sv, "JDK_"sv,
    "IBM_JAVA_"sv, "OPENJ9_"sv, "MAVEN_"sv, "GRADLE_"sv, "SBT_"sv, "ANT_"sv, "KOTLIN_"sv,
    "GROOVY_"sv, "SCALA_"sv, "LEIN_"sv, "CLJ_"sv, "JBANG_"sv, "CATALINA_"sv, "JYTHON"sv,
    "DOTNET_"sv, "COR_"sv, "CORECLR_"sv, "COMPLUS_"sv, "MONO_"sv, "NUGET_"sv, "MSBUILD"sv,
    "ASPNETCORE_"sv, "LUA_"sv, "LUAROCKS_"sv, "CGO_"sv, "CARGO"sv, "RUSTC"sv, "RUSTDOC"sv,
    "RUSTUP_"sv, "RUST_"sv, "ERL_"sv, "ELIXIR_"sv, "IEX_"sv, "MIX_"sv, "REBAR_"sv, "JULIA_"sv,
    "TCL_"sv, "CAML"sv, "OCAML"sv, "OPAM"sv, "GHC_"sv, "CABAL_"sv, "STACK_"sv, "GUILE_"sv,
    "SWIFT_"sv, "FLUTTER_"sv, "OCTAVE_"sv, "MATLAB"sv, "CRYSTAL_"sv, "ZIG_"sv, "R_"sv, "EMACS"sv,
    "NVIM_"sv, "ASDF_"sv, "MISE_"sv, "RTX_"sv, "SDKMAN_"sv, "DIRENV_"sv, "NIX_"sv, "GUIX_"sv,
    "HOMEBREW_"sv, "SNAP_"sv, "FLATPAK_"sv, "APPIMAGE"sv,
    // what builds programs
    "MAKE"sv, "CMAKE_"sv, "CTEST_"sv, "NINJA_"sv, "CCACHE_"sv, "DISTCC_"sv, "SCCACHE_"sv,
    "PKG_CONFIG"sv, "GCC_"sv, "COLLECT_"sv, "CLANG_"sv, "LLVM_"sv, "GCOV_"sv, "ACLOCAL"sv,
    "BAZEL_"sv, "VCPKG_"sv, "CONAN_"sv,
    // programs that others start, and their plugins
    "GIT_"sv, "LESS"sv, "FZF_"sv, "BAT_"sv, "RSYNC_"sv, "PSQL_"sv, "PASSWORD_STORE_"sv,
    "PINENTRY_"sv, "DOCKER_"sv, "BUILDKIT_"sv, "BUILDX_"sv, "COMPOSE_"sv, "PODMAN_"sv,
    "MINIKUBE_"sv, "KUBECTL_"sv, "TF_CLI_"sv, "ANSIBLE_"sv, "VAGRANT_"sv, "PACKER_"sv,
    "CLOUDSDK_PYTHON"sv, "CLOUDSDK_PROXY_"sv, "VSCODE_"sv,
    // libraries that load others
    "GIO_"sv, "GTK"sv, "GDK_"sv, "GST_"sv, "QT_"sv, "QML"sv, "LIBGL_"sv, "MESA_"sv, "VK_LAYER_"sv,
    "VK_ADD_"sv, "ALSA_"sv, "PULSE_"sv, "FONTCONFIG_"sv, "MAGICK_"sv, "ODBC"sv, "LIBMYSQL_"sv,
    "P11_KIT_"sv,
    // whom the child talks to, and whom it trusts
    "OPENSSL_"sv, "GNUTLS_"sv, "LDAPTLS_"sv, "GRPC_"sv};

constexpr std::array kSuffixes{
    // whoever sets a proxy sees the traffic
    "_PROXY"sv, "_CA_BUNDLE"sv,
    // options of a compiler, a virtual machine, a sanitizer; a program to start
    "FLAGS"sv, "_OPTS"sv, "_JAVA_OPTIONS"sv, "SAN_OPTIONS"sv, "_SYMBOLIZER_PATH"sv, "PAGER"sv,
    "EDITOR"sv, "ASKPASS"sv, "_BROWSER"sv, "_COMMAND"sv, "_WRAPPER"sv};

std::string upper_case(std::string_view name) {
  std::string upper(name);
  for (char& c : upper) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return upper;
}

template <class Names>
bool is_one_of(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// GOENV, GOFLAGS, GOTOOLCHAIN, GOAUTH, GOCACHEPROG …: Go's own have no
/// underscore, unlike GOOGLE_API_KEY.
bool is_of_go(std::string_view name) {
  return name.starts_with("GO") && name.find('_') == std::string_view::npos;
}

}  // namespace

bool inherited_variable(std::string_view name) {
  return is_one_of(kInherited, name) || name.starts_with("LC_");
}

bool hijacking_variable(std::string_view name) {
  // Programs differ in which case they read (npm_config_x, http_proxy).
  const auto upper = upper_case(name);
  return is_one_of(kInherited, upper) || is_one_of(kNames, upper) || is_of_go(upper) ||
         std::any_of(kPrefixes.begin(), kPrefixes.end(),
                     [&](std::string_view prefix) { return upper.starts_with(prefix); }) ||
         std::any_of(kSuffixes.begin(), kSuffixes.end(),
                     [&](std::string_view suffix) { return upper.ends_with(suffix); });
}

bool names_a_steering_file(std::string_view name) {
  return is_one_of(kSteeringFiles, upper_case(name));
}

}  // namespace postern
