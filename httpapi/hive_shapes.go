package httpapi

import (
	"os"
	"strconv"
	"time"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive"
	"rbeehive/hive/audit"
	"rbeehive/hive/doctor"
	"rbeehive/hive/hardware"
	"rbeehive/hive/telemetry"
	"rbeehive/httpapi/wire"
)

// What hive finds out and does, as wire shapes; shapes.go has the records.

func portsShape(v alloc.Survey) wire.Ports {
	holders := make([]wire.Holder, 0, len(v.Holders))
	for _, h := range v.Holders {
		holders = append(holders, holderShape(h))
	}
	return wire.Ports{
		Range:       v.Range.String(),
		Total:       v.Total,
		Free:        v.Free,
		Leased:      v.Leased,
		Quarantined: v.Quarantined,
		Reserved:    v.Reserved,
		Foreign:     v.Foreign,
		Draining:    v.Draining,
		Forbidden:   v.Forbidden,
		Holders:     holders,
	}
}

func holderShape(h sockets.Holder) wire.Holder {
	return wire.Holder{
		Port:    h.Port,
		Kind:    h.Kind,
		PID:     orNull(h.PID),
		Program: orNull(h.Program),
		User:    orNull(h.User),
		Since:   orNullTime(&h.Since),
	}
}

func hiveShape(i hive.Info) wire.Hive {
	return wire.Hive{
		HiveID:    i.HiveID,
		Version:   i.Version,
		StateID:   i.StateID,
		StartedAt: wire.Time(i.StartedAt),
		Recovery: wire.Recovery{
			TookMS:     i.Recovery.Took.Milliseconds(),
			Adopted:    i.Recovery.Adopted,
			Freed:      i.Recovery.Freed,
			Restarted:  i.Recovery.Restarted,
			Unverified: i.Recovery.Unverified,
			Orphans:    i.Recovery.Orphans,
		},
	}
}

func doctorShape(all []doctor.Checkup) wire.Doctor {
	d := wire.Doctor{Checks: make([]wire.Checkup, 0, len(all))}
	for _, c := range all {
		d.Checks = append(d.Checks, wire.Checkup{
			Name: c.Name, Status: string(c.Status), Found: c.Found, Means: orNull(c.Means), Do: orNull(c.Do),
		})
		if c.Status == doctor.Warning {
			d.Warnings++
		}
	}
	return d
}

func auditShape(r audit.Report) wire.Audit {
	shape := wire.Audit{At: orNullTime(&r.At), TookMS: r.Took.Milliseconds(), Runs: r.Runs, Findings: []wire.Finding{}}
	for _, f := range r.Findings {
		shape.Findings = append(shape.Findings, wire.Finding{
			Code:      f.Code,
			Port:      orNull(f.Port),
			WorkerID:  orNull(f.WorkerID),
			LeaseID:   orNull(f.LeaseID),
			PID:       orNull(f.PID),
			Program:   orNull(f.Program),
			Message:   f.Message,
			Since:     wire.Time(f.Since),
			Sightings: f.Sightings,
		})
	}
	return shape
}

func planShape(p hive.Plan) wire.Plan {
	shape := wire.Plan{
		DryRun: p.DryRun, Types: []wire.TypeChange{}, Workers: []wire.WorkerChange{},
		Autostart: orEmpty(p.Autostart), Applied: orEmpty(p.Applied), NeedStart: orEmpty(p.NeedStart),
	}
	for _, t := range p.Types {
		shape.Types = append(shape.Types, wire.TypeChange{Name: t.Name, Change: string(t.Change), Keys: orEmpty(t.Keys)})
	}
	for _, c := range p.Workers {
		shape.Workers = append(shape.Workers, wire.WorkerChange{
			WorkerID: c.WorkerID, Name: orNull(c.Name), Type: c.Type, Port: c.Port, Action: string(c.Action), Reason: c.Reason,
		})
	}
	return shape
}

func deviceShape(d hardware.Device) wire.Device {
	return wire.Device{
		ID: d.ID, Name: d.Name, DeviceType: string(d.Kind), VRAMGB: d.MemoryMiB / 1024, ComputeCapability: orNull(d.ComputeCapability),
	}
}

// megabyte is the unit of rbee's telemetry.
const megabyte = 1 << 20

func heartbeatShape(beat *telemetry.Heartbeat, info hive.Info, all bool) wire.Heartbeat {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	shape := wire.Heartbeat{
		Type: "telemetry", HiveID: info.HiveID, Timestamp: wire.Time(beat.At), Workers: []wire.WorkerUse{},
		HiveInfo: wire.HeartbeatHive{
			ID: info.HiveID, Hostname: hostname, Port: int(info.APIPort), OperationalStatus: "ready",
			HealthStatus: wire.HeartbeatHealth{Status: "healthy"}, Version: info.Version,
		},
	}
	for _, u := range beat.Workers {
		if u.Ready || all {
			shape.Workers = append(shape.Workers, workerUseShape(u))
		}
	}
	return shape
}

func workerUseShape(u telemetry.WorkerUse) wire.WorkerUse {
	return wire.WorkerUse{
		PID: u.PID, Group: u.Type, Instance: strconv.Itoa(int(u.Port)), Model: orNull(u.Model),
		CPUPercent: u.CPUPercent, RSSMB: u.RSS / megabyte, UptimeS: int64(u.Uptime / time.Second),
		IOReadMBS: u.ReadPerSecond / megabyte, IOWriteMBS: u.WritePerSecond / megabyte,
		GPUPercent: u.GPUPercent, VRAMMB: u.GPUMemoryMiB, TotalVRAMMB: u.GPUMemoryAllMiB,
	}
}
