package proc_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
)

// outsider is a user who is not the one that runs the tests.
func outsider(t *testing.T) proc.Credential {
	t.Helper()
	c, err := proc.LookUser("54321:54322")
	require.NoError(t, err)
	require.True(t, c.Other())
	return c
}

// Everything that a login, systemd and a cloud leave in an environment. What is
// good for any user is handed on to any; what speaks of hive's service, login and
// credentials to nobody who does not ask for it.
func TestInheritedByWhom(t *testing.T) {
	const (
		all    = "for all"
		own    = "for hive's own user"
		asked  = "for who asks"
		nobody = "for nobody"
	)
	cases := map[string]string{
		all: "PATH LANG LANGUAGE LC_ALL TZ TMPDIR LD_LIBRARY_PATH HF_HOME HF_HUB_OFFLINE HF_HUB_DISABLE_IMPLICIT_TOKEN CUDA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES " +
			"HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HSA_OVERRIDE_GFX_VERSION OMP_NUM_THREADS GGML_CUDA_FORCE_MMQ LLAMA_ARG_CTX_SIZE VLLM_USE_V1 http_proxy HTTPS_PROXY " +
			"SSL_CERT_FILE REQUESTS_CA_BUNDLE PYTHONPATH PYTHONUNBUFFERED API_KEY LLAMA_API_KEY VLLM_API_KEY",
		own:    "HOME USER LOGNAME SHELL TERM XDG_CACHE_HOME XDG_RUNTIME_DIR VIRTUAL_ENV LD_PRELOAD DISPLAY DOCKER_HOST SOME_SETTING HF_TOKEN HUGGING_FACE_HUB_TOKEN PYTHONUSERBASE PYTHONHOME",
		asked:  "CREDENTIALS_DIRECTORY SYSTEMD_EXEC_PID MAINPID MANAGERPID MEMORY_PRESSURE_WATCH MEMORY_PRESSURE_WRITE FDSTORE RUNTIME_DIRECTORY STATE_DIRECTORY SSH_AUTH_SOCK SSH_CONNECTION GPG_AGENT_INFO SUDO_USER SUDO_COMMAND DBUS_SESSION_BUS_ADDRESS XDG_SESSION_ID XDG_SEAT XDG_VTNR XAUTHORITY KRB5CCNAME AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AZURE_CLIENT_SECRET GOOGLE_APPLICATION_CREDENTIALS KUBECONFIG VAULT_TOKEN GITHUB_TOKEN DB_PASSWORD PGPASSWORD OPENAI_API_KEY LLAMA_CLOUD_API_KEY PORT VLLM_PORT LLAMA_ARG_HOST GOMEMLIMIT",
		nobody: "HIVE_TOKEN HIVE_QUEEN_URL RBEEHIVE_LEASE NOTIFY_SOCKET LISTEN_FDS WATCHDOG_USEC INVOCATION_ID JOURNAL_STREAM",
	}
	for who, names := range cases {
		for name := range strings.FieldsSeq(names) {
			require.Equal(t, who == all || who == own, proc.Inherits(name, false), "%s for hive's own user", name)
			require.Equal(t, who == all, proc.Inherits(name, true), "%s for another user", name)
			inherited := []string{name + "=x"}
			got := []bool{
				slices.Contains(proc.Environ(inherited, nil), name+"=x"),
				slices.Contains(outsider(t).Environ(inherited, nil), name+"=x"),
				slices.Contains(proc.Environ(inherited, []string{name}), name+"=x"),
				slices.Contains(outsider(t).Environ(inherited, []string{name}), name+"=x"),
			}
			require.Equal(t, []bool{who == all || who == own, who == all, who != nobody, who != nobody}, got, name)
		}
	}
}

// With the user's own HOME, USER and LOGNAME, unless the entry says otherwise.
func TestEnvironOfAnotherUser(t *testing.T) {
	inherited := []string{"PATH=/bin", "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash", "SECRET=s", "HF_TOKEN=t", "HF_HOME=/h"}
	c := outsider(t)
	require.Empty(t, cmp.Diff(
		[]string{"PATH=/bin", "HF_HOME=/h", "SPT_NOENV=1", "HOME=/", "USER=54321", "LOGNAME=54321", "HF_TOKEN=t"},
		c.Environ(inherited, []string{"HF_TOKEN"})))
	require.Empty(t, cmp.Diff(
		[]string{"PATH=/usr/bin", "HF_HOME=/h", "SPT_NOENV=1", "HOME=/srv", "USER=54321", "LOGNAME=54321"},
		c.Environ(inherited, []string{"HOME=/srv", "PATH=/usr/bin", "UNSET"})))
}

// What is told and what is done are one.
func TestInheritance(t *testing.T) {
	inherited, removed := proc.Inheritance(false, []string{"GOGC=50", "PORT", "HOSTNAME"})
	require.Contains(t, inherited, "*")
	require.Contains(t, inherited, "HF_TOKEN", "although *_TOKEN are removed")
	require.NotContains(t, inherited, "PATH", "* says it")
	require.Subset(t, removed, []string{"HIVE_*", "NOTIFY_SOCKET", "SSH_*", "*_TOKEN", "HOST"})
	require.NotContains(t, removed, "PORT")
	require.NotContains(t, removed, "GOGC")

	inherited, removed = proc.Inheritance(true, nil)
	require.Subset(t, inherited, []string{"PATH", "HF_*", "PYTHON*"})
	require.NotContains(t, inherited, "*")
	require.Subset(t, removed, []string{"*", "HIVE_*", "HF_TOKEN", "VLLM_PORT", "PYTHONHOME"})
	require.NotContains(t, removed, "SSH_*", "* says it")

	for _, other := range []bool{false, true} {
		inherited, removed := proc.Inheritance(other, nil)
		for _, name := range inherited {
			require.True(t, proc.Inherits(strings.ReplaceAll(name, "*", "X"), other), name)
		}
		for _, name := range removed {
			require.False(t, proc.Inherits(strings.ReplaceAll(name, "*", "Y"), other) && name != "*", name)
		}
	}
}

// docs/configuration-reference.md has every name of the table, in the column where it belongs.
func TestDocumentedInheritance(t *testing.T) {
	raw, err := os.ReadFile("../../docs/configuration-reference.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(raw), "| of hive's environment | to workers of hive's own user | to those of another |\n|---|---|---|\n")
	require.True(t, found, "the table is not there")
	quoted := regexp.MustCompile("`([^`]*)`")
	documented := [][]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 {
			break
		}
		var names []string
		for _, m := range quoted.FindAllStringSubmatch(cells[0], -1) {
			names = append(names, strings.Fields(m[1])...)
		}
		documented = append(documented, append(names, strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])))
	}
	require.Empty(t, cmp.Diff(proc.InheritRules(), documented))
}
