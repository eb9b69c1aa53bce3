package admin

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/db"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// DB is the commands that maintain a state file.
func DB(a *cli.App) *cobra.Command {
	var given string
	cmd := cli.Group("db", "Check, dump, back up, restore, compact and salvage the state file", "  hivectl db check",
		dbCheck(a, &given), dbDump(a, &given), dbBackup(a, &given), dbRestore(a, &given), dbCompact(a, &given), dbSalvage(a, &given))
	cmd.Long = "The state file is DIR/hive.db, DIR being --data-dir, else $HIVE_DATA_DIR, else hive's\n" +
		"default: /var/lib/hive for root, $XDG_STATE_HOME/hive or ~/.local/state/hive for\n" +
		"others.\n\n" +
		"These commands work on the file while no hive has it open, and refuse one that is in\n" +
		"use; stopping hive leaves its workers running. backup without --data-dir is made by the\n" +
		"running hive."
	cmd.PersistentFlags().StringVar(&given, "data-dir", "", "state directory of the hive (HIVE_DATA_DIR)")
	cli.CompleteFlag(cmd, "data-dir", cli.Directories)
	return cmd
}

// offline gives a command of db the state directory, and its errors their hints. given is
// what --data-dir says, which is known only when the command runs.
func offline(a *cli.App, given *string, run func(cmd *cobra.Command, args []string, dir string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		dir, err := a.StateDir(*given)
		if err != nil {
			return err
		}
		return dbError(run(cmd, args, dir))
	}
}

func dbError(err error) error {
	var refused *db.Refusal
	switch {
	case !errors.As(err, &refused):
		return err
	case refused.NotFound:
		return cli.NotFound(refused.Text, refused.Hint)
	}
	return cli.Failed(refused.Text, refused.Hint)
}

// printValue prints v as JSON or YAML, or as a table.
func printValue(a *cli.App, v any, table func(io.Writer) error) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return a.Print(cli.View{Raw: raw, Table: table})
}

func dbCheck(a *cli.App, given *string) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the whole state file; exit code 1 if anything is wrong",
		Long: "check verifies the pages of the file, the checksum of every record, and that records\n" +
			"agree with each other, and names bucket and record of everything it finds. Nothing is\n" +
			"written.",
		Example: "  hivectl db check\n  hivectl db check --data-dir /var/lib/hive -o json",
		Args:    cobra.NoArgs,
		RunE: offline(a, given, func(cmd *cobra.Command, _ []string, dir string) error {
			c, err := db.Check(cmd.Context(), dir)
			if err != nil {
				return err
			}
			if err := printValue(a, c, func(w io.Writer) error { return writeChecked(a, w, c) }); err != nil || len(c.Findings) == 0 {
				return err
			}
			return &cli.Reported{Code: cli.ExitFailed}
		}),
	}
}

func writeChecked(a *cli.App, w io.Writer, c db.Checked) error {
	var counts []string
	for _, r := range c.Records {
		counts = append(counts, fmt.Sprintf("%s %d", r.Bucket, r.Records))
	}
	fields := [][2]string{
		{"file", output.Clean(c.Path)},
		{"state", output.OrDash(c.StateID)},
		{"schema", fmt.Sprint(c.Schema)},
		{"size", fmt.Sprintf("%d bytes, %d used", c.Bytes, c.UsedBytes)},
		{"records", strings.Join(counts, ", ")},
		{"live", fmt.Sprintf("%d workers", c.Live)},
	}
	if c.Newest != nil {
		fields = append(fields, [2]string{"newest", output.Clock(wire.Time(*c.Newest)) + ", " + a.Age(wire.Time(*c.Newest)) + " ago"})
	}
	if c.MetaPageLost {
		fields = append(fields, [2]string{"caution", "one of the two meta pages is lost: what was recorded last may be missing, unless the power failed in that moment"})
	}
	if err := output.Fields(w, fields); err != nil {
		return err
	}
	lines := []string{""}
	for _, f := range c.Findings {
		lines = append(lines, output.Clean(f.String()))
	}
	if len(c.Findings) == 0 {
		return output.Lines(w, append(lines, "no problems found"))
	}
	return output.Lines(w, append(lines, fmt.Sprintf("%d findings: hivectl db salvage rebuilds the file from what can be read", len(c.Findings))))
}

func dbDump(a *cli.App, given *string) *cobra.Command {
	return &cobra.Command{
		Use:   "dump",
		Short: "Print every record as a line of JSON; exit code 1 if one cannot be read",
		Long: "dump prints {\"bucket\",\"key\",\"value\"} for every record. What cannot be read is a line\n" +
			"with \"error\" and does not end it, so a damaged file can be dumped too. The file\n" +
			"holds command lines, and no values of workers' environments.",
		Example: "  hivectl db dump | grep '\"bucket\":\"leases\"'",
		Args:    cobra.NoArgs,
		RunE: offline(a, given, func(_ *cobra.Command, _ []string, dir string) error {
			bad, err := db.Dump(dir, a.Env.Stdout)
			if err != nil || bad == 0 {
				return err
			}
			// On Stderr, since Stdout is the dump.
			a.Notice("%d records cannot be read", bad)
			return &cli.Reported{Code: cli.ExitFailed}
		}),
	}
}

func dbBackup(a *cli.App, given *string) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "backup DEST",
		Short: "Copy the state file to DEST, checked: from the running hive, or with --data-dir from the file",
		Long: "backup writes a consistent copy of the state file to DEST, a new file or an existing\n" +
			"directory. The copy is checked completely before it gets its name.\n\n" +
			"Without --data-dir the running hive makes it, which hands out its state only over a\n" +
			"unix socket or to a caller with its token. With --data-dir it is made from the file,\n" +
			"while no hive has it open.",
		Example:           "  hivectl db backup /srv/backups/\n  hivectl db backup hive.backup --data-dir /var/lib/hive",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cli.Files,
		RunE: func(cmd *cobra.Command, args []string) error {
			var s db.Saved
			var err error
			if *given != "" {
				s, err = db.Backup(cmd.Context(), *given, args[0], force, a.Env.Now())
			} else {
				open := func() (io.ReadCloser, error) { return a.Hive.Backup(cmd.Context()) }
				s, err = db.Receive(cmd.Context(), open, args[0], force, a.Env.Now())
				// The usual hint is to start the hive, which a backup does not need.
				if errors.Is(err, client.ErrUnreachable) {
					return &cli.Error{Code: cli.ExitUnreachable, Text: err.Error(), Hint: "give the hive's address with --addr, or make the backup from the file with --data-dir"}
				}
			}
			if err != nil {
				return dbError(err)
			}
			return printValue(a, s, func(w io.Writer) error {
				return output.Lines(w, []string{fmt.Sprintf("%s: %d bytes, %d running workers, checked", output.Clean(s.Path), s.Bytes, s.Live)})
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace DEST if it exists")
	return cmd
}

func dbRestore(a *cli.App, given *string) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Replace the state file by a backup; the old file is kept beside it",
		Long: "restore checks FILE completely, keeps the present state file as\n" +
			"hive.db.before-restore-TIME, and puts a copy of FILE in its place.\n\n" +
			"The next start of hive notices that. It adopts the workers of the backup that are still\n" +
			"running, and in that start it neither stops nor restarts any by itself: they may be\n" +
			"somebody else's. Workers that were started after the backup keep running, but are no\n" +
			"longer known: `hivectl db salvage` finds them. --dry-run only shows what would be done.",
		Example:           "  hivectl db restore /srv/backups/hive-20260102T030405.000Z.db --dry-run",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cli.Files,
		RunE: offline(a, given, func(cmd *cobra.Command, args []string, dir string) error {
			r, err := db.Restore(cmd.Context(), dir, args[0], dryRun, a.Env.Now())
			if err != nil {
				return err
			}
			return printValue(a, r, func(w io.Writer) error { return writeRestored(a, w, r) })
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check FILE and show what would be done")
	return cmd
}

func writeRestored(a *cli.App, w io.Writer, r db.Restored) error {
	what := "restored"
	if r.DryRun {
		what = "would be restored"
	}
	lines := []string{fmt.Sprintf("%s: %s from %s", what, output.Clean(r.Path), output.Clean(r.File))}
	if r.Newest != nil {
		lines = append(lines, fmt.Sprintf("its newest record is from %s, %s ago", output.Clock(wire.Time(*r.Newest)), a.Age(wire.Time(*r.Newest))))
		if back := r.Current.Sub(*r.Newest); !r.Current.IsZero() && back > 0 {
			lines = append(lines, fmt.Sprintf("the present file is %s newer: jobs, leases and workers of that time will be lost", back.Round(time.Second)))
		}
	}
	workers := fmt.Sprintf("it has %d workers that had not ended", r.Live)
	if r.Before != nil {
		workers += fmt.Sprintf(", the present file has %d", *r.Before)
	}
	lines = append(lines, workers)
	if r.Damage != nil {
		lines = append(lines, "the present file is damaged: "+output.Clean(*r.Damage))
	}
	switch {
	case r.SavedAs == nil:
	case r.DryRun:
		lines = append(lines, "the present file would be saved as "+output.Clean(*r.SavedAs))
	default:
		lines = append(lines, "the old file was saved as "+output.Clean(*r.SavedAs))
	}
	return output.Lines(w, append(lines, "the first start with it neither stops nor restarts workers by itself"))
}

func dbCompact(a *cli.App, given *string) *cobra.Command {
	return &cobra.Command{
		Use:   "compact",
		Short: "Rewrite the state file without its free pages",
		Long: "compact rewrites the file. The new one is checked, and compared with the old one record\n" +
			"by record, before it replaces it. It needs as much space on the disk as the file uses.",
		Example: "  hivectl db compact --data-dir /var/lib/hive",
		Args:    cobra.NoArgs,
		RunE: offline(a, given, func(cmd *cobra.Command, _ []string, dir string) error {
			c, err := db.Compact(cmd.Context(), dir)
			if err != nil {
				return err
			}
			return printValue(a, c, func(w io.Writer) error {
				return output.Lines(w, []string{fmt.Sprintf("%s: %d bytes before, %d after", output.Clean(c.Path), c.Before, c.After)})
			})
		}),
	}
}

func dbSalvage(a *cli.App, given *string) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "salvage",
		Short: "Rebuild a damaged state file, so that hive adopts every running worker",
		Long: "salvage builds a new state file from what can still be read of a damaged or lost one,\n" +
			"from the newest good backup in DIR/backups, and from what the running workers show:\n" +
			"their stamps, logs, cgroups and ports. hive then adopts all of them without restarting\n" +
			"any. No process is touched.\n\n" +
			"It prints what is taken from where and what is lost. Nothing is changed without\n" +
			"--yes, or \"yes\" at the terminal. The damaged file is kept as hive.db.damaged-TIME.",
		Example: "  hivectl db salvage\n  hivectl db salvage --data-dir /var/lib/hive --yes",
		Args:    cobra.NoArgs,
		RunE: offline(a, given, func(cmd *cobra.Command, _ []string, dir string) (err error) {
			s, err := db.PlanSalvage(cmd.Context(), dir)
			if err != nil {
				return err
			}
			// The plan holds the state file until then: a hive that started meanwhile would change what
			// the plan was made from.
			defer func() { err = errors.Join(err, s.Close()) }()
			if err := printValue(a, s.JSON(), func(w io.Writer) error { return output.Lines(w, cleanAll(s.Lines())) }); err != nil {
				return err
			}
			if !yes && !confirmed(a, "rebuild the state file? Type yes: ") {
				return cli.Failed("nothing was changed", "apply the plan with --yes")
			}
			savedAs, err := s.Apply(cmd.Context())
			if err != nil {
				return err
			}
			if savedAs != "" {
				a.Notice("the damaged file was saved as %s", savedAs)
			}
			a.Notice("done: start hive, which adopts the running workers")
			return nil
		}),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	return cmd
}

func cleanAll(lines []string) []string {
	for i, line := range lines {
		lines[i] = output.Clean(line)
	}
	return lines
}

// confirmed asks a person at the terminal; without a terminal the answer is no.
func confirmed(a *cli.App, question string) bool {
	in, ok := a.Env.Stdin.(*os.File)
	// Where Stdout is no terminal nobody has seen the plan that is asked about.
	if !ok || a.Env.Width == 0 {
		return false
	}
	// What comes from a pipe or a file was not typed after reading it.
	if info, err := in.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	fmt.Fprint(a.Env.Stderr, question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	return err == nil && strings.TrimSpace(answer) == "yes"
}
