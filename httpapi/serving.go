package httpapi

import (
	"net/http"
	"strconv"

	"rbeehive/hive/endpoint"
	"rbeehive/hive/routes"
	"rbeehive/httpapi/wire"
)

// listRoutes lists what a gateway can send requests to.
func (s *Server) listRoutes(w http.ResponseWriter, r *http.Request) error {
	list, err := s.hive.Load().Routes().Routes(r.Context())
	if err != nil {
		return err
	}
	page := wire.Routes{Routes: make([]wire.Route, 0, len(list))}
	for _, route := range list {
		page.Routes = append(page.Routes, routeShape(route))
	}
	return writeJSON(w, http.StatusOK, page)
}

func (s *Server) proveReplica(w http.ResponseWriter, r *http.Request, workerID string) error {
	replica, err := s.hive.Load().Routes().Prove(r.Context(), workerID)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, replicaShape(replica))
}

func routeShape(r routes.Route) wire.Route {
	shape := wire.Route{
		Name: r.Name, Names: r.Names, Type: r.Type, State: r.State, Reason: orNull(r.Reason),
		Replicas: make([]wire.Replica, 0, len(r.Replicas)),
	}
	for _, replica := range r.Replicas {
		shape.Replicas = append(shape.Replicas, replicaShape(replica))
	}
	return shape
}

func replicaShape(r routes.Replica) wire.Replica {
	shape := wire.Replica{
		WorkerID: r.Worker.WorkerID, URL: endpoint.URL(r.Worker), EngineModel: orNull(r.EngineModel), Weak: r.Weak,
		Listeners: make([]wire.Listener, 0, len(r.Listeners)),
	}
	for _, sock := range r.Listeners {
		shape.Listeners = append(shape.Listeners, wire.Listener{
			// As text: JSON's numbers do not have 64 bits everywhere.
			Address: sock.Local.String(), Cookie: strconv.FormatUint(sock.Cookie, 10), Cgroup: strconv.FormatUint(sock.CgroupID, 10),
		})
	}
	return shape
}
