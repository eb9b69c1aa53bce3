package tokens_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/tokens"
	"rbeehive/store"
)

func TestATokenIsWhatItWasMadeFor(t *testing.T) {
	r := newRig(t)
	by := access.Caller{Known: true, UID: 4001, User: "alice", Rights: access.Rights{Level: access.Admin}}
	secrets := map[string]string{}
	for _, rights := range []access.Rights{{Level: access.Read}, {Level: access.Operate, Types: []string{"web", "cpu"}}, {Level: access.Admin}} {
		begun := time.Now()
		token, secret, err := r.Add(t.Context(), by, tokens.Request{Name: rights.Level.String(), Rights: rights})
		require.NoError(t, err)
		require.Equal(t, []any{rights.Level.String(), rights.Types, by.Record()}, []any{token.Level, token.Types, token.CreatedBy})
		require.WithinRange(t, token.CreatedAt, begun, time.Now())
		require.Nil(t, token.ExpiresAt)
		require.Equal(t, rights.Level.String()+": "+rights.String(), r.who(secret))
		secrets[secret] = r.who(secret)
	}
	require.Len(t, secrets, 3)
	require.Empty(t, r.who("hive_another"))
	require.Empty(t, r.who(""))
	require.Equal(t, []string{"admin", "operate", "read"}, names(r.List()), "by name")

	require.NoError(t, r.load())
	for secret, who := range secrets {
		require.Equal(t, who, r.who(secret), "the next hive knows them")
	}
}

// The secret is in the answer and nowhere else: a backup gives nobody access.
func TestASecretIsKeptNowhere(t *testing.T) {
	r := newRig(t)
	token, secret := r.add(reading("ci"))
	again, renewed, err := r.Rotate(t.Context(), access.Hive(), "ci")
	require.NoError(t, err)
	for _, s := range []string{secret, renewed} {
		require.Regexp(t, `^hive_[A-Z2-7]{52}$`, s, "letters and digits that need no quotes")
	}
	require.NotEqual(t, secret, renewed)
	sum := sha256.Sum256([]byte(secret))
	require.Equal(t, hex.EncodeToString(sum[:]), token.SHA256)
	require.NotEqual(t, token.SHA256, again.SHA256)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(r.path), "*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, s := range []string{secret, renewed} {
			require.NotContains(t, string(text), strings.TrimPrefix(s, "hive_"), file)
		}
	}
	for _, entry := range r.logs.AllEntries() {
		line, err := entry.String()
		require.NoError(t, err)
		require.NotContains(t, line, "hive_")
	}
}

// A name is one token: its rights, its end and its maker stay when it gets a new secret.
func TestRotate(t *testing.T) {
	r := newRig(t)
	before, old := r.add(tokens.Request{Name: "ci", Rights: access.Rights{Level: access.Operate, Types: []string{"web"}}, ExpiresIn: time.Hour})
	_, other := r.add(reading("other"))
	after, secret, err := r.Rotate(t.Context(), access.Hive(), "ci")
	require.NoError(t, err)
	require.Empty(t, r.who(old), "the old secret counts no more when it returns")
	require.Equal(t, "ci: "+access.Rights{Level: access.Operate, Types: []string{"web"}}.String(), r.who(secret))
	before.SHA256 = after.SHA256
	require.Equal(t, before, after)
	require.NotEmpty(t, r.who(other))
	require.Len(t, r.List(), 2)
	_, secret, err = r.Rotate(t.Context(), access.Hive(), "nobody")
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	require.EqualError(t, err, `token "nobody": not found`)
	require.Empty(t, secret)
}

func TestRevoke(t *testing.T) {
	r := newRig(t)
	_, secret := r.add(reading("ci"))
	_, other := r.add(reading("other"))
	require.NoError(t, r.Revoke(t.Context(), access.Hive(), "ci"))
	require.Empty(t, r.who(secret))
	require.NotEmpty(t, r.who(other))
	require.Equal(t, []string{"other"}, names(r.List()))
	err := r.Revoke(t.Context(), access.Hive(), "ci")
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	require.EqualError(t, err, `token "ci": not found`)
	require.NoError(t, r.load())
	require.Empty(t, r.who(secret))
	r.run.Serve()
	_, again := r.add(reading("ci"))
	require.Equal(t, "ci: read", r.who(again), "the name is free again")
	require.Empty(t, r.who(secret))
}

// An expired token counts for nothing, and is there until it is revoked: so that somebody
// who wonders why it is refused finds it.
func TestATokenExpires(t *testing.T) {
	r := newRig(t)
	token, secret := r.add(tokens.Request{Name: "ci", Rights: access.Rights{Level: access.Read}, ExpiresIn: time.Hour})
	require.Equal(t, token.CreatedAt.Add(time.Hour), *token.ExpiresAt)
	require.NotEmpty(t, r.who(secret))
	require.NoError(t, r.store.Update(t.Context(), func(tx *store.Tx) error {
		now := time.Now()
		token.ExpiresAt = &now
		return tx.PutToken(token)
	}))
	require.NoError(t, r.load())
	require.Empty(t, r.who(secret))
	require.Equal(t, []string{"ci"}, names(r.List()))
	r.run.Serve()
	_, renewed, err := r.Rotate(t.Context(), access.Hive(), "ci")
	require.NoError(t, err)
	require.Empty(t, r.who(renewed), "a new secret gives it no new time")
	_, _, err = r.Add(t.Context(), access.Hive(), reading("ci"))
	require.ErrorIs(t, err, errdefs.ErrConflict)
}

func TestTokensThatAreRefused(t *testing.T) {
	r := newRig(t)
	r.add(reading("ci"))
	operate := func(types ...string) access.Rights { return access.Rights{Level: access.Operate, Types: types} }
	for _, c := range []struct {
		ask   tokens.Request
		kind  error
		field string
		want  string
	}{
		{reading(""), errdefs.ErrBadRequest, "name", `is ""; expected letters, digits, '.', '_', '@' and '-', at most 63, the first a letter or a digit`},
		{reading("-ci"), errdefs.ErrBadRequest, "name", `is "-ci"; expected`},
		{reading("a b"), errdefs.ErrBadRequest, "name", "expected letters"},
		{reading("ci\n"), errdefs.ErrBadRequest, "name", "expected letters"},
		{reading(strings.Repeat("n", 64)), errdefs.ErrBadRequest, "name", "at most 63"},
		{reading(tokens.FileName), errdefs.ErrBadRequest, "name", "token-file stands for the token in the data directory; choose another"},
		{tokens.Request{Name: "x"}, errdefs.ErrBadRequest, "rights", "is required: read, admin, or types"},
		{tokens.Request{Name: "x", Rights: operate("web", "nothing")}, errdefs.ErrBadRequest, "types", `no worker type "nothing" (known: comfyui, cpu, `},
		{reading("ci"), errdefs.ErrConflict, "name", "there is a token ci already; rotate it for a new secret, or revoke it first"},
	} {
		_, secret, err := r.Add(t.Context(), access.Hive(), c.ask)
		require.ErrorIs(t, err, c.kind, "%+v", c.ask)
		var in *errdefs.InputError
		require.ErrorAs(t, err, &in)
		require.Equal(t, c.field, in.Field)
		require.Contains(t, in.Detail, c.want)
		require.Empty(t, secret)
	}
	require.Equal(t, []string{"ci"}, names(r.List()))
	for _, name := range []string{"a", strings.Repeat("n", 63), "bob@host", "0.A_b-c"} {
		r.add(reading(name))
	}
}

// Every request with a token looks through memory: there is a bound.
func TestThereAreNotAnyNumberOfTokens(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.store.Update(t.Context(), func(tx *store.Tx) error {
		for i := range store.MaxTokens - 1 {
			sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
			if err := tx.PutToken(store.Token{Name: fmt.Sprintf("t%d", i), Level: "read", SHA256: hex.EncodeToString(sum[:])}); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NoError(t, r.load())
	r.run.Serve()
	r.add(reading("last"))
	_, _, err := r.Add(t.Context(), access.Hive(), reading("more"))
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.EqualError(t, err, fmt.Sprintf("there are %d tokens, and no more are possible; revoke some", store.MaxTokens))
	_, _, err = r.Rotate(t.Context(), access.Hive(), "t7")
	require.NoError(t, err, "those that there are can still be changed")
	require.NoError(t, r.Revoke(t.Context(), access.Hive(), "t7"))
	r.add(reading("more"))
}

// Of a name that is asked for twice at once there is one token, whose secret counts.
func TestTheSameNameAtOnce(t *testing.T) {
	r := newRig(t)
	var wg sync.WaitGroup
	secrets, errs := make([]string, 8), make([]error, 8)
	for i := range secrets {
		wg.Go(func() { _, secrets[i], errs[i] = r.Add(t.Context(), access.Hive(), reading("ci")) })
	}
	wg.Wait()
	made := 0
	for i, err := range errs {
		if err != nil {
			require.ErrorIs(t, err, errdefs.ErrConflict)
			continue
		}
		made++
		require.Equal(t, "ci: read", r.who(secrets[i]))
	}
	require.Equal(t, 1, made)
}

// What is in memory is what the file has, whoever changed it last.
func TestChangesAtOnce(t *testing.T) {
	r := newRig(t)
	r.add(reading("ci"))
	var wg sync.WaitGroup
	secrets := make([]string, 8)
	for i := range secrets {
		wg.Go(func() {
			var err error
			_, secrets[i], err = r.Rotate(t.Context(), access.Hive(), "ci")
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	count := func() (counting []string) {
		for _, s := range secrets {
			if r.who(s) != "" {
				counting = append(counting, s)
			}
		}
		return counting
	}
	inMemory := count()
	require.Len(t, inMemory, 1)
	require.NoError(t, r.load())
	require.Equal(t, inMemory, count())
}

func TestNothingChangesBeforeHiveServes(t *testing.T) {
	r := newRig(t)
	_, secret := r.add(reading("ci"))
	require.NoError(t, r.load())
	_, _, err := r.Add(t.Context(), access.Hive(), reading("more"))
	require.ErrorIs(t, err, errdefs.ErrRecovering)
	_, _, err = r.Rotate(t.Context(), access.Hive(), "ci")
	require.ErrorIs(t, err, errdefs.ErrRecovering)
	require.ErrorIs(t, r.Revoke(t.Context(), access.Hive(), "ci"), errdefs.ErrRecovering)
	require.Equal(t, "ci: read", r.who(secret), "who calls is asked also while hive recovers")
}

// A change that its caller has given up has not come about.
func TestAChangeThatIsGivenUp(t *testing.T) {
	r := newRig(t)
	_, secret := r.add(reading("ci"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- r.store.Update(context.Background(), func(*store.Tx) error { close(held); <-free; return nil })
	}()
	<-held
	_, _, err := r.Rotate(ctx, access.Hive(), "ci")
	require.ErrorIs(t, err, context.Canceled)
	close(free)
	require.NoError(t, <-done)
	require.Equal(t, "ci: read", r.who(secret))
}

// A token that silently stopped counting would lock somebody out.
func TestADamagedHashIsAnError(t *testing.T) {
	for _, sum := range []string{"no hexadecimal", "abcd"} {
		r := newRig(t)
		token, _ := r.add(reading("ci"))
		good := token.SHA256
		put := func(sum string) {
			require.NoError(t, r.store.Update(t.Context(), func(tx *store.Tx) error {
				token.SHA256 = sum
				return tx.PutToken(token)
			}))
		}
		put(sum)
		require.EqualError(t, r.load(), "read the tokens: token ci: its hash is not one")
		put(good)
		require.NoError(t, r.load())
	}
}

// A level of a newer hive is none here, rather than one that is guessed.
func TestALevelThatIsNotKnown(t *testing.T) {
	r := newRig(t)
	token, secret := r.add(reading("ci"))
	require.NoError(t, r.store.Update(t.Context(), func(tx *store.Tx) error {
		token.Level = "owner"
		return tx.PutToken(token)
	}))
	require.NoError(t, r.load())
	name, rights, ok := r.Rights(sha256.Sum256([]byte(secret)))
	require.True(t, ok)
	require.Equal(t, "ci", name)
	require.Equal(t, access.Rights{}, rights)
}

// Who did what is in the log.
func TestChangesAreLogged(t *testing.T) {
	r := newRig(t)
	by := access.Caller{Token: "boss", Rights: access.Rights{Level: access.Admin}}
	_, _, err := r.Add(t.Context(), by, reading("ci"))
	require.NoError(t, err)
	_, _, err = r.Rotate(t.Context(), by, "ci")
	require.NoError(t, err)
	require.NoError(t, r.Revoke(t.Context(), by, "ci"))
	require.Error(t, r.Revoke(t.Context(), by, "ci"))
	var lines []string
	for _, e := range r.logs.AllEntries() {
		lines = append(lines, fmt.Sprintf("%s %s by %s", e.Message, e.Data["token"], e.Data["by"]))
	}
	require.Equal(t, []string{"a token was added ci by token boss", "a token has a new secret ci by token boss", "a token was revoked ci by token boss"}, lines)
}

func TestDecode(t *testing.T) {
	for body, want := range map[string]string{
		``:                                                     `the body is empty; expected a JSON object such as {"name": "ci", "level": "read"}`,
		`{"name": "ci", "rights": "x"}`:                        `rights: is not a field of a token (its fields: name, level, types, expires_in)`,
		`{"name": 7, "level": "read"}`:                         `name: is 7; expected a string`,
		`{"name": "ci"}`:                                       `level: is ""; expected read, operate or admin`,
		`{"name": "ci", "level": "none"}`:                      `level: is "none"; expected read, operate or admin`,
		`{"name": "ci", "level": "Admin"}`:                     `level: is "Admin"; expected`,
		`{"name": "ci", "level": "operate"}`:                   `types: is for the level operate, and required there`,
		`{"name": "ci", "level": "operate", "types": []}`:      `types: is for the level operate, and required there`,
		`{"name": "ci", "level": "admin", "types": ["web"]}`:   `types: is for the level operate`,
		`{"name": "ci", "level": "operate", "types": "web"}`:   `types: is "web"; expected`,
		`{"name": "ci", "level": "read", "expires_in": "59s"}`: `expires_in: is "59s"; expected a duration with a unit of at least 1m, such as 720h`,
		`{"name": "ci", "level": "read", "expires_in": "-1h"}`: `expires_in: is "-1h"; expected`,
		`{"name": "ci", "level": "read", "expires_in": "30"}`:  `expires_in: is "30"; expected`,
		`{"name": "ci", "level": "read", "expires_in": 30}`:    `expires_in: is 30; expected a string`,
	} {
		_, err := tokens.Decode([]byte(body))
		require.ErrorContains(t, err, want, body)
		require.ErrorAs(t, err, new(*errdefs.InputError), body)
	}
	for body, want := range map[string]tokens.Request{
		`{"name": "ci", "level": "read"}`: reading("ci"),
		`{"name": "ci", "level": "operate", "types": ["web", "cpu"], "expires_in": "1m"}`: {
			Name: "ci", Rights: access.Rights{Level: access.Operate, Types: []string{"web", "cpu"}}, ExpiresIn: time.Minute,
		},
		`{"name": "ci", "level": "admin", "expires_in": ""}`: {Name: "ci", Rights: access.Rights{Level: access.Admin}},
	} {
		got, err := tokens.Decode([]byte(body))
		require.NoError(t, err, body)
		require.Equal(t, want, got, body)
	}
}
