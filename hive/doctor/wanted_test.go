package doctor_test

import (
	"fmt"
	"testing"

	"rbeehive/hive/doctor"
)

func TestWanted(t *testing.T) { t.Parallel(); evaluate(t, wantedRows()) }

func wantedRows() []row {
	return []row{
		{"one that is tried again", func(f *doctor.Facts) {
			f.Wanted = []doctor.Wanted{{Name: "embed", Reason: "port 5800 is held by nc", NextTry: f.Now}}
		}, "wanted", doctor.Warning, []string{"1 that should run", "embed: port 5800 is held by nc", "hive tries again by itself"}},
		{"one that is not", func(f *doctor.Facts) {
			f.Wanted = []doctor.Wanted{{Name: "a", Reason: "no", NextTry: f.Now}, {Name: "b", Reason: "never\n"}}
		}, "wanted", doctor.Warning, []string{"2 that should run", "a: no; b: never\\n", "hive does not try all of them again"}},
		{"many", func(f *doctor.Facts) {
			for i := range 11 {
				f.Wanted = append(f.Wanted, doctor.Wanted{Name: fmt.Sprintf("s%d", i), Reason: "no"})
			}
		}, "wanted", doctor.Warning, []string{"11 that should run", "s7: no; and 3 more"}},
	}
}
