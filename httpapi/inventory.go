package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"rbeehive/hive/input"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

// listLeases lists leases by port; a port has one, so the cursor is the port.
func (s *Server) listLeases(w http.ResponseWriter, p wire.ListLeasesParams) error {
	limit := int(orZero(p.Limit))
	var after wire.Port
	if text := orZero(p.After); text != "" {
		if err := after.Bind(text); err != nil {
			return badField("after", err.Error())
		}
	}
	list := s.hive.Load().Leases
	if p.PID != nil {
		// "No leases" would be a strange answer about a process that cannot exist.
		if *p.PID < 1 || *p.PID > input.MaxPID {
			return badField("pid", fmt.Sprintf("is %d; expected an integer from 1 to %d", *p.PID, input.MaxPID))
		}
		list = func() ([]store.Lease, error) { return s.hive.Load().LeasesOf(*p.PID) }
	}
	leases, err := list()
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	leases = slices.SortedFunc(slices.Values(leases), func(a, b store.Lease) int { return cmp.Compare(a.Port, b.Port) })
	leases = slices.DeleteFunc(leases, func(l store.Lease) bool { return l.Port <= uint16(after) })
	page := wire.Leases{Leases: []wire.Lease{}}
	if limit > 0 && len(leases) > limit {
		leases = leases[:limit]
		page.Next = strconv.Itoa(int(leases[limit-1].Port))
	}
	for _, l := range leases {
		page.Leases = append(page.Leases, leaseShape(l, s.hive.Load().ExpiresAt(l.LeaseID)))
	}
	return writeJSON(w, http.StatusOK, page)
}

// getPorts surveys the range now: it reads the kernel's socket table.
func (s *Server) getPorts(w http.ResponseWriter, r *http.Request) error {
	view, err := s.hive.Load().Ports(r.Context())
	if err != nil {
		return fmt.Errorf("survey ports: %w", err)
	}
	return writeJSON(w, http.StatusOK, portsShape(view))
}

func (s *Server) getHive(w http.ResponseWriter) error {
	return writeJSON(w, http.StatusOK, hiveShape(s.hive.Load().Info()))
}

// getDoctor has the hive look at itself and at the place it runs in, which can
// take some seconds.
func (s *Server) getDoctor(w http.ResponseWriter, r *http.Request) error {
	all, err := s.hive.Load().Doctor(r.Context())
	if err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	return writeJSON(w, http.StatusOK, doctorShape(all))
}
