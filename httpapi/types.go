package httpapi

import (
	"net/http"
	"strings"

	"rbeehive/hive"
	"rbeehive/httpapi/wire"
)

// listTypes lists the worker types by name. With ?version=1 it runs programs.
func (s *Server) listTypes(w http.ResponseWriter, r *http.Request) error {
	versions, err := queryBool(r, "version")
	if err != nil {
		return err
	}
	page := wire.Types{Types: []wire.TypeSummary{}}
	for _, t := range s.hive.Load().Types(r.Context(), versions) {
		page.Types = append(page.Types, typeSummaryShape(t))
	}
	return writeJSON(w, http.StatusOK, page)
}

// getType says what a spawn with the fields of the query would do.
func (s *Server) getType(w http.ResponseWriter, r *http.Request) error {
	spawn, err := querySpawn(r)
	if err != nil {
		return err
	}
	version, err := queryBool(r, "version")
	if err != nil {
		return err
	}
	spawn.Worker = pathVar(r, "name")
	t, err := s.hive.Load().TypeInfo(r.Context(), spawn, version)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, typeDetailShape(t))
}

// querySpawn reads the fields of a spawn from a query. An unknown name is
// refused: an answer to another question than was meant would be believed.
func querySpawn(r *http.Request) (hive.Spawn, error) {
	var spawn hive.Spawn
	for name, values := range r.URL.Query() {
		if len(values) != 1 {
			return spawn, badField(name, "is there twice")
		}
		if err := setSpawn(&spawn, name, values[0]); err != nil {
			return spawn, err
		}
	}
	return spawn, nil
}

func setSpawn(spawn *hive.Spawn, name, value string) (err error) {
	param, isParam := strings.CutPrefix(name, "param.")
	switch {
	case name == "model":
		spawn.Model = value
	case name == "device":
		spawn.Device = value
	case name == "name":
		spawn.Name = value
	case name == "port":
		spawn.Port, err = parsePort(name, value)
	case isParam && param != "":
		if spawn.Params == nil {
			spawn.Params = map[string]string{}
		}
		spawn.Params[param] = value
	case name != "version":
		return badField(name, "is not known here; expected model, device, name, port, param.KEY or version")
	}
	return err
}
