package doctor_test

import (
	"testing"

	"rbeehive/hive/doctor"
)

func TestConfiguration(t *testing.T) { t.Parallel(); evaluate(t, configurationRows()) }

func configurationRows() []row {
	return []row{
		{
			"a reload that failed", func(f *doctor.Facts) { f.Reload = "hive.yaml:3: unknown key" },
			"configuration", doctor.Warning,
			[]string{"the last reload failed: hive.yaml:3: unknown key", "`hive check`", "`hivectl reload`"},
		},
	}
}
