package feed

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

var testTime = time.Date(2030, 1, 2, 3, 4, 5, 678901000, time.UTC)

func hashOf(text string) policies.Hash { return sha256.Sum256([]byte(text)) }

// oneOfEach is a frame of every type.
func oneOfEach() []Frame {
	body := policies.Object{Kind: policies.KindGroup, Owner: "a", ID: "g", Body: jsontext.Value(`{"parent":null}`)}
	return []Frame{
		&Heartbeat{Platform: "p", Revision: 7, Hash: hashOf("7"), Time: testTime},
		&Snapshot{Platform: "p", Revision: 7, Hash: hashOf("7"), Time: testTime},
		&Snapshot{Platform: "p", Revision: 7, Hash: hashOf("7"), Time: testTime, After: 3, AfterHash: hashOf("3")},
		&Object{body},
		&Object{policies.Object{Kind: policies.KindAccount, ID: "a", Body: jsontext.Value(`{}`)}},
		&SnapshotEnd{Count: 2, Digest: hashOf("lines")},
		&Change{policies.Change{
			Revision: policies.MaxRevision, Time: testTime, AuditHash: hashOf("audit"), Hash: hashOf("8"),
			// Not canonical, and yet the bytes that were hashed.
			Objects: jsontext.Value(`[ {"id":"\u0061" , "kind":"account","body":{}}]`),
		}},
		&Notice{Revision: 8, Time: testTime, BodiesHash: hashOf("b"), AuditHash: hashOf("audit"), Hash: hashOf("8")},
		&Notice{
			Revision: 8, Time: testTime, BodiesHash: hashOf("b"), AuditHash: hashOf("audit"), Hash: hashOf("8"),
			Owners: []policies.AccountID{"a", "b"}, IDs: []string{"environment:e"}, Subjects: []policies.AccountID{"b"},
			Objects: []policies.Object{body},
		},
	}
}

func TestFramesRoundTrip(t *testing.T) {
	t.Parallel()
	var stream []byte
	for _, f := range oneOfEach() {
		line, err := AppendFrame(nil, f)
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(line, []byte(`{"type":"`+string(f.Type())+`"`)))
		stream = append(append(stream, line...), '\n')
	}
	for name, in := range map[string]io.Reader{
		"at once":      bytes.NewReader(stream),
		"byte by byte": iotest.OneByteReader(bytes.NewReader(stream)),
	} {
		r := NewReader(in)
		for _, want := range oneOfEach() {
			got, err := r.Next()
			require.NoError(t, err, name)
			require.Equal(t, want, got, name)
		}
		_, err := r.Next()
		require.ErrorIs(t, err, io.EOF, name)
	}
}

func TestUnknownMembersAreIgnored(t *testing.T) {
	t.Parallel()
	for _, f := range oneOfEach() {
		line, err := AppendFrame(nil, f)
		require.NoError(t, err)
		signed := string(line[:len(line)-1]) + `,"signature":{"key":"k","value":"…"}}` + "\n"
		got, err := NewReader(strings.NewReader(signed)).Next()
		require.NoError(t, err, signed)
		require.Equal(t, f, got)
	}
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	hash := hashOf("h").String()
	const when = `"time":"2030-01-01T00:00:00Z"`
	for line, want := range map[string]RefusalKind{
		"\n":                             RefusedMalformed,
		"[]\n":                           RefusedMalformed,
		`{"Type":"heartbeat"}` + "\n":    RefusedMalformed,
		` {"type":"heartbeat"}` + "\n":   RefusedMalformed,
		`{"type":"rumour"}` + "\n":       RefusedMalformed,
		`{"type":"heartbeat"`:            RefusedTruncated,
		`{"type":"heartbeat"` + "\n":     RefusedMalformed,
		`{"type":"heartbeat"} {}` + "\n": RefusedMalformed,
		`{"type":"heartbeat","platform":"p",` + when + `,"revision":1,"hash":"00"}` + "\n":                          RefusedMalformed,
		`{"type":"heartbeat","platform":"p",` + when + `,"revision":-1,"hash":"` + hash + `"}` + "\n":               RefusedMalformed,
		`{"type":"heartbeat","platform":"p",` + when + `,"revision":9007199254740992,"hash":"` + hash + `"}` + "\n": RefusedMalformed,
		`{"type":"heartbeat","platform":"p","revision":1,"hash":"` + hash + `"}` + "\n":                             RefusedMalformed,
		`{"type":"heartbeat","platform":"p",` + when + `,"revision":1,"revision":1,"hash":"` + hash + `"}` + "\n":   RefusedMalformed,
		`{"type":"snapshot",` + when + `,"revision":1,"hash":"` + hash + `"}` + "\n":                                RefusedMalformed,
		`{"type":"snapshot",` + when + `,"platform":"p","revision":1,"after":2}` + "\n":                             RefusedMalformed,
		`{"type":"object","kind":"group","owner":"a","id":"g","body":null}` + "\n":                                  RefusedMalformed,
		`{"type":"object","kind":"group","owner":"a","id":"g"}` + "\n":                                              RefusedMalformed,
		`{"type":"object","owner":"a","id":"g","body":{}}` + "\n":                                                   RefusedMalformed,
		`{"type":"change","revision":0,` + when + `,"objects":[]}` + "\n":                                           RefusedMalformed,
		`{"type":"change","revision":1,` + when + `,"objects":{}}` + "\n":                                           RefusedMalformed,
		`{"type":"change","revision":1,` + when + `}` + "\n":                                                        RefusedMalformed,
		`{"type":"change","revision":1,"objects":[]}` + "\n":                                                        RefusedMalformed,
		`{"type":"notice","revision":1}` + "\n":                                                                     RefusedMalformed,
		`{"type":"snapshot_end","count":-1}` + "\n":                                                                 RefusedMalformed,
		`{"type":"snapshot_end","count":1,"x":` + strings.Repeat("[", 100_000) + "\n":                               RefusedOversized,
		`{"type":"heartbeat","x":"` + strings.Repeat("x", MaxLine) + "\"}\n":                                        RefusedOversized,
		`{"type":"object","x":` + strings.Repeat("[", 1<<20) + "\n":                                                 RefusedMalformed,
		`{"type":"object","x":"` + strings.Repeat("x", MaxObjectLine) + "\"}\n":                                     RefusedOversized,
	} {
		_, err := NewReader(strings.NewReader(line)).Next()
		var refused *RefusedError
		require.ErrorAs(t, err, &refused, line[:min(len(line), 100)])
		require.Equal(t, want, refused.Kind, line[:min(len(line), 100)])
	}
}

// endless never ends its line.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	if e.read == 0 {
		copy(p, `{"type":"object","id":"`)
	}
	e.read += len(p)
	return len(p), nil
}

func TestEndlessLineIsNotBuffered(t *testing.T) {
	t.Parallel()
	in := &endless{}
	_, err := NewReader(in).Next()
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, RefusedOversized, refused.Kind)
	require.LessOrEqual(t, in.read, MaxObjectLine+2*readBuffer)
}

func TestReaderPassesOnErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("the line is cut")
	_, err := NewReader(io.MultiReader(strings.NewReader(`{"type":"obj`), iotest.ErrReader(broken))).Next()
	require.ErrorIs(t, err, broken)
}

func TestAppendFrameRefuses(t *testing.T) {
	t.Parallel()
	before := []byte("before")
	for name, f := range map[string]Frame{
		"objects on two lines": &Change{policies.Change{Revision: 1, Objects: jsontext.Value("[\n]")}},
		"objects that are not": &Change{policies.Change{Revision: 1, Objects: jsontext.Value("]")}},
		"no array":             &Change{policies.Change{Revision: 1, Objects: jsontext.Value("{}")}},
		"a deletion":           &Object{policies.Object{Kind: policies.KindGroup, ID: "g", Body: jsontext.Value("null")}},
		"not UTF-8":            &Object{policies.Object{Kind: policies.KindGroup, ID: "\xff", Body: jsontext.Value("{}")}},
	} {
		out, err := AppendFrame(before, f)
		require.Error(t, err, name)
		require.Equal(t, "before", string(out), name)
	}
	_, err := AppendFrame(nil, &Snapshot{Platform: strings.Repeat("p", MaxLine)})
	var long *TooLongError
	require.ErrorAs(t, err, &long)
	require.Equal(t, TypeSnapshot, long.Type)
}

func TestNoticeFollows(t *testing.T) {
	t.Parallel()
	objects := jsontext.Value(`[]`)
	c := policies.Change{Revision: 5, Time: testTime, Objects: objects, AuditHash: hashOf("audit")}
	c.Hash = policies.ChainHash(hashOf("4"), 5, sha256.Sum256(objects), c.AuditHash)
	n, err := NewNotice(c)
	require.NoError(t, err)
	require.NoError(t, n.Follows(4, hashOf("4")))
	require.NoError(t, c.Follows(4, hashOf("4")))
	for kind, at := range map[RefusalKind]Position{
		RefusedAltered:    {Revision: 4, Hash: hashOf("5")},
		RefusedOutOfOrder: {Revision: 3, Hash: hashOf("4")},
		RefusedRollback:   {Revision: 5, Hash: hashOf("4")},
	} {
		for _, err := range []error{n.Follows(at.Revision, at.Hash), changeFollows(c, at)} {
			var refused *RefusedError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, kind, refused.Kind)
		}
	}
	_, err = NewNotice(policies.Change{Objects: jsontext.Value(`[{"id":1}]`)})
	require.Error(t, err)
}

// FuzzReader: whatever comes, the reader neither panics nor takes what it would not
// write, and what it takes it reads again from what it writes.
func FuzzReader(f *testing.F) {
	for _, frame := range oneOfEach() {
		line, err := AppendFrame(nil, frame)
		require.NoError(f, err)
		f.Add(append(line, '\n'))
	}
	f.Add([]byte(`{"type":"heartbeat"}` + "\n" + `{"type":"object","kind":"group"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		for {
			got, err := r.Next()
			var refused *RefusedError
			if err != nil {
				require.True(t, errors.Is(err, io.EOF) || errors.As(err, &refused), "%v", err)
				return
			}
			line, err := AppendFrame(nil, got)
			if err != nil {
				continue // white space that our own writer refuses to put on a line
			}
			again, err := NewReader(bytes.NewReader(append(line, '\n'))).Next()
			require.NoError(t, err)
			second, err := AppendFrame(nil, again)
			require.NoError(t, err)
			require.Equal(t, string(line), string(second))
		}
	})
}
