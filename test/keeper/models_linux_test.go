package keeper_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/stretchr/testify/require"

	"rbeehive/test/keeper"
)

func (s *site) modelOperations() {
	const id = "org/one"
	var list struct {
		Models []struct{ ID, Status string }
	}
	var one struct{ ID, Status string }
	s.succeed("model_download", object{"model": id}, &one)
	s.succeed("model_list", nil, &list)
	require.Len(s, list.Models, 1)
	s.succeed("model_get", object{"id": id}, &one)
	require.Equal(s, "available", one.Status)
	s.fail("model_load", object{"id": id, "device": "cpu"}, "spawn a worker with this model")
	s.fail("model_unload", object{"id": id}, "spawn a worker with this model")
	s.succeed("model_delete", object{"id": id}, &one)
	require.Equal(s, "deleted", one.Status)
	s.fail("model_get", object{"id": id}, "not_found")
}

func (s *site) refusals() {
	for _, name := range []string{
		"status", "infer", "image_generation", "image_transform", "image_inpaint", "queen_check",
		"rhai_script_save", "rhai_script_test", "rhai_script_get", "rhai_script_list", "rhai_script_delete",
	} {
		v := s.do(name, object{"anything": []int{1}})
		require.Equal(s, "[ERROR] operation '"+name+"' is not supported by a hive (send it to the queen)", v.Lines[len(v.Lines)-1])
	}
	s.refused(http.StatusBadRequest, "unknown_operation", "dance", nil)
	for _, id := range []string{"", "../x", "/etc/passwd", ".hidden", "a/b", "a b", strings.Repeat("x", 64)} {
		s.trusted().refused(http.StatusBadRequest, "bad_request", "worker_install", object{"worker_id": id})
		s.trusted().refused(http.StatusBadRequest, "bad_request", "worker_remove", object{"worker_id": id})
	}
	_, err := os.Stat(filepath.Join(s.dir, "data/types.d"))
	require.ErrorIs(s, err, os.ErrNotExist)
}

func (s *site) refused(status int, code, operation string, fields object) {
	s.Helper()
	_, _, err := s.Submit(s.Context(), operation, fields)
	var refused *keeper.Refused
	require.ErrorAs(s, err, &refused)
	require.Equal(s, status, refused.Status, refused.Body)
	var problem struct{ Code string }
	require.NoError(s, json.Unmarshal([]byte(refused.Body), &problem))
	require.Equal(s, code, problem.Code)
}

func (s *site) installs() {
	s = s.trusted()
	file := func(name string) string { return filepath.Join(s.dir, "data/types.d", name+".yaml") }
	var one struct{ ID, Path, Source, Version string }
	var gone struct{ Status string }
	s.succeed("worker_install", object{"worker_id": "llm-worker-rbee-cpu"}, &one)
	require.Equal(s, filepath.Join(s.dir, "path/llm-worker-rbee-cpu"), one.Path)
	require.Equal(s, "0.4.0", one.Version)
	s.succeed("worker_install", object{"worker_id": "llama-server"}, &one)
	require.Equal(s, "installed", one.Source)
	s.succeed("worker_install", object{"worker_id": "llama-server"}, &one) // again is the same
	info, err := os.Stat(file("llama-server"))
	require.NoError(s, err)
	require.Equal(s, os.FileMode(0o600), info.Mode())

	s.fail("worker_install", object{"worker_id": "mine"}, "conflict: ")
	s.fail("worker_install", object{"worker_id": "cpu"}, "conflict: ")
	s.fail("worker_install", object{"worker_id": "vllm"}, "program_not_found: ")
	s.fail("worker_install", object{"worker_id": "sh"}, "no preset says how it is told its port")
	s.fail("worker_install", object{"worker_id": "nobody"}, "neither a preset nor a program")
	s.fail("worker_remove", object{"worker_id": "mine"}, "conflict: ")
	s.fail("worker_remove", object{"worker_id": "nobody"}, "not_found: ")

	w := s.spawn("llama-server")
	s.fail("worker_remove", object{"worker_id": "llama-server"}, "is used by "+w.WorkerID)
	var stopped struct{ Status string }
	s.succeed("worker_process_delete", object{"pid": w.PID}, &stopped)
	s.succeed("worker_remove", object{"worker_id": "llama-server"}, &gone)
	require.Equal(s, "removed", gone.Status)
	_, err = os.Stat(file("llama-server"))
	require.ErrorIs(s, err, os.ErrNotExist)
	s.fail("worker_remove", object{"worker_id": "llama-server"}, "conflict: ") // the preset is a type still
	var catalog workers
	s.succeed("worker_catalog_list", nil, &catalog)
	require.Equal(s, []string{"llm-worker-rbee-cpu"}, catalog.ids("installed"))
	names, err := os.ReadDir(filepath.Dir(file("x")))
	require.NoError(s, err)
	require.Len(s, names, 1, "nothing is left over")
}
