package httpapi

import (
	"fmt"
	"net/http"

	"rbeehive/hive/lease"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

func (s *Server) writeLease(w http.ResponseWriter, status int, l store.Lease) error {
	return writeJSON(w, status, leaseShape(l, s.hive.Load().ExpiresAt(l.LeaseID)))
}

func (s *Server) getLease(w http.ResponseWriter, port wire.Port) error {
	lease, err := s.hive.Load().Lease(uint16(port))
	if err != nil {
		return err
	}
	return s.writeLease(w, http.StatusOK, lease)
}

// acquireLease leases ports to a program that hive does not start.
func (s *Server) acquireLease(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	req, err := lease.DecodeRequest(body)
	if err != nil {
		return err
	}
	lease, err := s.hive.Load().AcquireLease(r.Context(), callerOf(r), req)
	if err != nil {
		return err
	}
	w.Header().Set("Location", fmt.Sprintf("/v1/leases/%d", lease.Port))
	return s.writeLease(w, http.StatusCreated, lease)
}

func (s *Server) renewLease(w http.ResponseWriter, r *http.Request, port wire.Port) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	renewal, err := lease.DecodeRenewal(body)
	if err != nil {
		return err
	}
	lease, err := s.hive.Load().RenewLease(r.Context(), callerOf(r), uint16(port), renewal)
	if err != nil {
		return err
	}
	return s.writeLease(w, http.StatusOK, lease)
}

// releaseLease ends a lease. The lease_id is not a secret, it is the proof that
// the caller means this lease and not a later one of the same port.
func (s *Server) releaseLease(w http.ResponseWriter, r *http.Request, port wire.Port, p wire.ReleaseLeaseParams) error {
	if p.LeaseID == "" {
		return missing("lease_id")
	}
	freed, err := s.hive.Load().ReleaseLease(callerOf(r), uint16(port), p.LeaseID)
	if err != nil {
		return err
	}
	answer := wire.Released{Port: uint16(port), LeaseID: p.LeaseID, Status: "released"}
	if !freed {
		answer.Status = "quarantined"
	}
	return writeJSON(w, http.StatusOK, answer)
}
