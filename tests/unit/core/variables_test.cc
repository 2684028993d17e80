#include "core/variables.h"

#include <gtest/gtest.h>

namespace postern {
namespace {

TEST(HijackingVariable, IsWhatSteersLoadersAndShells) {
  for (const char* name :
       {"PATH", "path", "HOME", "LD_PRELOAD", "Ld_Preload", "LD_LIBRARY_PATH", "LC_ALL",
        "DYLD_INSERT_LIBRARIES", "MALLOC_TRACE", "GCONV_PATH", "BASH_ENV", "ENV", "PS4", "TMPDIR",
        "TMP", "XDG_CONFIG_HOME", "DBUS_SESSION_BUS_ADDRESS", "POSTERN_CLIENT_SECRET"}) {
    EXPECT_TRUE(hijacking_variable(name)) << name;
  }
}

TEST(HijackingVariable, IsWhatSteersRuntimes) {
  for (const char* name : {"NODE_OPTIONS",
                           "NODE_EXTRA_CA_CERTS",
                           "npm_config_registry",
                           "Npm_Config_Registry",
                           "COREPACK_NPM_REGISTRY",
                           "PYTHONPATH",
                           "PYTHONSTARTUP",
                           "PERL5OPT",
                           "RUBYOPT",
                           "JAVA_TOOL_OPTIONS",
                           "JDK_JAVA_OPTIONS",
                           "GRADLE_OPTS",
                           "MY_SERVER_OPTS",
                           "COMPlus_EnableDiagnostics",
                           "DOTNET_STARTUP_HOOKS",
                           "ERL_AFLAGS",
                           "ELIXIR_ERL_OPTIONS",
                           "JULIA_LOAD_PATH",
                           "TCL_LIBRARY",
                           "TCLLIBPATH",
                           "CAML_LD_LIBRARY_PATH",
                           "OCAMLRUNPARAM",
                           "R_LIBS",
                           "R_LIBS_USER",
                           "LUA_PATH",
                           "GOENV",
                           "GOFLAGS",
                           "GOTOOLCHAIN",
                           "GOROOT",
                           "GOPROXY",
                           "GONOSUMDB",
                           "GOSUMDB",
                           "GOAUTH",
                           "GOCACHEPROG",
                           "CGO_CFLAGS",
                           "CARGO",
                           "CARGO_BUILD_RUSTC_WRAPPER",
                           "RUSTC",
                           "RUSTC_WRAPPER",
                           "RUSTFLAGS"}) {
    EXPECT_TRUE(hijacking_variable(name)) << name;
  }
}

TEST(HijackingVariable, IsWhatSteersTools) {
  for (const char* name : {"MAKEFLAGS",
                           "makeflags",
                           "MAKEFILES",
                           "GNUMAKEFLAGS",
                           "MFLAGS",
                           "CC",
                           "CXX",
                           "LD",
                           "CFLAGS",
                           "GIT_SSH_COMMAND",
                           "SSH_ASKPASS",
                           "EDITOR",
                           "KUBE_EDITOR",
                           "AWS_PAGER",
                           "MANPAGER",
                           "LESS",
                           "LESSOPEN",
                           "LESSKEYIN",
                           "DOCKER_HOST",
                           "DOCKER_CONFIG",
                           "ANSIBLE_VAULT_PASSWORD_FILE",
                           "TF_CLI_CONFIG_FILE",
                           "HELM_PLUGINS",
                           "CLOUDSDK_PYTHON",
                           "RIPGREP_CONFIG_PATH",
                           "TAR_OPTIONS",
                           "ASAN_SYMBOLIZER_PATH",
                           "GIO_EXTRA_MODULES",
                           "GTK_MODULES",
                           "QT_PLUGIN_PATH",
                           "ODBCSYSINI",
                           "LIBMYSQL_PLUGINS"}) {
    EXPECT_TRUE(hijacking_variable(name)) << name;
  }
}

TEST(HijackingVariable, IsWhatSteersTrust) {
  for (const char* name :
       {"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSLKEYLOGFILE",
        "OPENSSL_CONF", "REQUESTS_CA_BUNDLE", "KRB5_CONFIG", "LDAPTLS_REQCERT"}) {
    EXPECT_TRUE(hijacking_variable(name)) << name;
  }
}

TEST(HijackingVariable, IsNoCredentialOfACommonServer) {
  for (const char* name : {"GITHUB_TOKEN",
                           "GH_TOKEN",
                           "GITHUB_PERSONAL_ACCESS_TOKEN",
                           "GITLAB_TOKEN",
                           "GITEA_ACCESS_TOKEN",
                           "DATABASE_URL",
                           "DATABASE_URI",
                           "API_KEY",
                           "PGPASSWORD",
                           "PGPASSFILE",
                           "PGHOST",
                           "MYSQL_PASSWORD",
                           "MYSQL_PWD",
                           "REDIS_URL",
                           "MONGODB_URI",
                           "GOOGLE_APPLICATION_CREDENTIALS",
                           "GOOGLE_API_KEY",
                           "GOCARDLESS_ACCESS_TOKEN",
                           "AWS_ACCESS_KEY_ID",
                           "AWS_SECRET_ACCESS_KEY",
                           "AWS_SESSION_TOKEN",
                           "AZURE_CLIENT_SECRET",
                           "CLOUDFLARE_API_TOKEN",
                           "SLACK_BOT_TOKEN",
                           "NOTION_TOKEN",
                           "LINEAR_API_KEY",
                           "JIRA_URL",
                           "JIRA_API_TOKEN",
                           "SENTRY_AUTH_TOKEN",
                           "OPENAI_API_KEY",
                           "ANTHROPIC_API_KEY",
                           "GEMINI_API_KEY",
                           "STRIPE_SECRET_KEY",
                           "NPM_TOKEN",
                           "PYPI_TOKEN",
                           "DOCKERHUB_TOKEN",
                           "SSH_PRIVATE_KEY",
                           "TF_TOKEN_app_terraform_io",
                           "KRB5CCNAME",
                           "LDAP_PASSWORD",
                           "NETRC",
                           "PROXY",
                           "MY_PATH",
                           "HOMEPAGE",
                           "KUBECONFIG"}) {
    EXPECT_FALSE(hijacking_variable(name)) << name;
  }
}

TEST(SteeringFile, IsAConfigurationThatMayNamePrograms) {
  for (const char* name :
       {"KUBECONFIG", "kubeconfig", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"}) {
    EXPECT_TRUE(names_a_steering_file(name)) << name;
    EXPECT_FALSE(hijacking_variable(name)) << name;
  }
  EXPECT_FALSE(names_a_steering_file("GOOGLE_APPLICATION_CREDENTIALS"));
}

}  // namespace
}  // namespace postern
