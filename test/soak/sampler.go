package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"
)

// sampler looks at hive again and again, and writes down each time what it sees: who
// ends a run early has a file.
type sampler struct {
	*run
	begin time.Time
	file  *os.File // nil: nothing is written
	csv   *csv.Writer
}

func (r *run) newSampler(path string) (*sampler, error) {
	s := &sampler{run: r, begin: time.Now()}
	if path == "" {
		return s, nil
	}
	var err error
	if s.file, err = os.Create(path); err != nil {
		return nil, err
	}
	s.csv = csv.NewWriter(s.file)
	header := []string{"seconds", "cpu_seconds"}
	for _, of := range allSeries {
		header = append(header, of.key)
	}
	return s, s.write(header)
}

func (s *sampler) write(row []string) error {
	if s.csv == nil {
		return nil
	}
	_ = s.csv.Write(row) // Error has it
	s.csv.Flush()
	return s.csv.Error()
}

func (s *sampler) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// longestLook is how long one may take on a machine that has much else to do.
const longestLook = 30 * time.Second

// look adds a look to those there are.
func (s *sampler) look(ctx context.Context, o *observations) error {
	n := len(o.looks)
	at := time.Since(s.begin)
	l, err := s.lookAt(ctx, n%countEvery == 0)
	if err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("look at hive: %w", err))
	}
	if took := time.Since(s.begin) - at; took > longestLook {
		s.tally.Violation("STUCK", "a look at hive took %s: what was seen says nothing of that time", took.Round(time.Second))
	}
	if l.busy = math.NaN(); n > 0 {
		l.busy = 100 * (l.cpu - o.looks[n-1].cpu) / (at - o.at[n-1]).Seconds()
	}
	o.at, o.looks = append(o.at, at), append(o.looks, l)
	row := []string{fmt.Sprintf("%.1f", at.Seconds()), fmt.Sprintf("%.2f", l.cpu)}
	for _, of := range allSeries {
		text := ""
		if v := of.of(l); !math.IsNaN(v) {
			text = strconv.FormatFloat(v, 'f', -1, 64)
		}
		row = append(row, text)
	}
	return s.write(row)
}
