package policies

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Kind is the kind of an [Object].
type Kind string

// The kinds of object, and the body that each has.
const (
	KindPolicyInForce Kind = "policy_in_force" // PolicyInForce; ID is "policy_in_force"
	KindToken         Kind = "token"           // TokenBody; ID is the token's id
	KindAccount       Kind = "account"         // AccountBody; ID is the account's
	KindGroup         Kind = "group"           // GroupBody
	KindEnvironment   Kind = "environment"     // EnvironmentBody
	KindPolicy        Kind = "policy"          // PolicyBody
	KindRole          Kind = "role"            // RoleBody
	KindMember        Kind = "member"          // MemberBody; ID is the collaboration's
	KindGrant         Kind = "grant"           // GrantBody; ID is GrantKey's string
)

// Object is one thing that decisions rest on, as the change log, the feed and
// snapshots carry it: without emails, names of persons or audit data. Owner is
// empty for policy_in_force, token and account. Body is canonical JSON; null says that
// the object was deleted.
type Object struct {
	Kind  Kind           `json:"kind"`
	Owner AccountID      `json:"owner,omitempty"`
	ID    string         `json:"id"`
	Body  jsontext.Value `json:"body"`
}

// Deleted tells whether o says that its object is gone.
func (o Object) Deleted() bool { return len(o.Body) == 0 || string(o.Body) == "null" }

// NewObject makes an object with body in canonical form; a nil body makes a
// deletion.
func NewObject(kind Kind, owner AccountID, id string, body any) (Object, error) {
	o := Object{Kind: kind, Owner: owner, ID: id, Body: jsontext.Value("null")}
	if body == nil {
		return o, nil
	}
	value, err := CanonicalJSON(body)
	if err != nil {
		return Object{}, fmt.Errorf("encode %s %q of owner %q: %w", kind, id, owner, err)
	}
	o.Body = value
	return o, nil
}

// CanonicalJSON encodes v as RFC 8785 says, so that equal values have equal
// bytes.
func CanonicalJSON(v any) (jsontext.Value, error) {
	if body, ok := v.(canonical); ok {
		return body.appendCanonical(make([]byte, 0, usualBody))
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	value := jsontext.Value(data)
	if err := value.Canonicalize(); err != nil {
		return nil, err
	}
	return value, nil
}

// GrantKey names a grant on the platform.
type GrantKey struct {
	Member   CollaborationID
	Resource Resource
}

// String is MEMBER/TYPE/ID; ids have no slash.
func (k GrantKey) String() string {
	return string(k.Member) + "/" + string(k.Resource.Type) + "/" + k.Resource.ID
}

// ParseGrantKey reads what [GrantKey.String] wrote.
func ParseGrantKey(s string) (GrantKey, error) {
	member, rest, ok := strings.Cut(s, "/")
	kind, id, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return GrantKey{}, fmt.Errorf("grant key %q is not MEMBER/TYPE/ID", s)
	}
	return GrantKey{CollaborationID(member), Resource{ResourceType(kind), id}}, nil
}

// Hash is a SHA-256 sum; in JSON it is lower-case hex.
type Hash [sha256.Size]byte

// String is lower-case hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes lower-case hex.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads hex of exactly 32 bytes.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return fmt.Errorf("a hash has %d hex digits, not %d", hex.EncodedLen(len(h)), len(text))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// Change is what one revision did, as the feed carries it.
type Change struct {
	Revision Revision  `json:"revision"`
	Time     time.Time `json:"time"`
	// Objects is the JSON array of the [Object]s touched, kept as the very bytes
	// that were hashed.
	Objects jsontext.Value `json:"objects"`
	// AuditHash is the hash of the revision's audit part, which the feed does not
	// carry: who, from where, what before.
	AuditHash Hash `json:"audit_hash"`
	// Hash chains this revision to the one before; see [ChainHash].
	Hash Hash `json:"hash"`
}

// EncodeObjects is the canonical array of objects, the bytes that [Change] keeps.
func EncodeObjects(objects []Object) (jsontext.Value, error) {
	const around = len(`{"body":,"id":"","kind":"environment","owner":""},`)
	w, size := &CanonicalWriter{}, 0
	for _, o := range objects {
		size += around + len(o.Body) + len(o.ID) + len(o.Owner)
	}
	w.Grow(size)
	w.Array(len(objects), func(i int) {
		o := objects[i]
		body := o.Body
		if o.Deleted() {
			body = jsontext.Value("null")
		}
		w.Raw(`{"body":`, body)
		w.Text(`,"id":`, o.ID)
		w.Text(`,"kind":`, string(o.Kind))
		if o.Owner != "" {
			w.Text(`,"owner":`, string(o.Owner))
		}
		w.Raw(`}`, nil)
	})
	return w.Value()
}

// CanonicalWriter writes what [CanonicalJSON] would, out of values that are canonical
// already, which are not read again: a log is mostly these. The caller puts the members
// of an object in the order of their names.
type CanonicalWriter struct {
	text []byte
	err  error
}

// Grow makes room for about so many bytes: what grows by itself is copied each time.
func (w *CanonicalWriter) Grow(n int) { w.text = slices.Grow(w.text, n) }

// Raw writes text, such as the name of a member, and behind it a canonical value.
func (w *CanonicalWriter) Raw(text string, value jsontext.Value) {
	w.text = append(append(w.text, text...), value...)
}

// Text writes text, and behind it a string in quotes.
func (w *CanonicalWriter) Text(text, value string) {
	quoted, err := jsontext.AppendQuote(append(w.text, text...), value)
	w.text = quoted
	if w.err == nil {
		w.err = err
	}
}

// Array writes an array of n items, each by a call of item.
func (w *CanonicalWriter) Array(n int, item func(i int)) {
	w.text = append(w.text, '[')
	for i := range n {
		if i > 0 {
			w.text = append(w.text, ',')
		}
		item(i)
	}
	w.text = append(w.text, ']')
}

// Value is what was written. A string that is not UTF-8 is an error.
func (w *CanonicalWriter) Value() (jsontext.Value, error) { return w.text, w.err }

// DecodeObjects reads the objects of c.
func (c Change) DecodeObjects() ([]Object, error) {
	var objects []Object
	if err := json.Unmarshal(c.Objects, &objects); err != nil {
		return nil, fmt.Errorf("decode the objects of revision %d: %w", c.Revision, err)
	}
	return objects, nil
}

// Follows checks that c comes right after the revision whose hash is previous.
func (c Change) Follows(revision Revision, previous Hash) error {
	if c.Revision.Epoch() == revision.Epoch() && c.Revision != revision+1 {
		return fmt.Errorf("revision %d does not follow revision %d", c.Revision, revision)
	}
	if want := ChainHash(previous, c.Revision, sha256.Sum256(c.Objects), c.AuditHash); want != c.Hash {
		return fmt.Errorf("the hash of revision %d does not follow from revision %d: something was changed or left out", c.Revision, revision)
	}
	return nil
}

// ChainHash is H(previous ‖ revision ‖ bodies ‖ audit), the revision as eight
// bytes, big-endian (architecture.md, One revision orders every change). Bodies
// is the hash of [Change.Objects].
func ChainHash(previous Hash, revision Revision, bodies, audit Hash) Hash {
	h := sha256.New()
	h.Write(previous[:])
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], uint64(revision))
	h.Write(number[:])
	h.Write(bodies[:])
	h.Write(audit[:])
	return Hash(h.Sum(nil))
}

// PolicyInForce is the catalogue and the Rego that decide on the platform: data
// like everything else, with a revision and a log entry when they change. Digest
// is the hash of the rest in canonical form.
type PolicyInForce struct {
	Digest    Hash              `json:"digest"`
	Catalogue Catalogue         `json:"catalogue"`
	Modules   map[string]string `json:"modules"` // file name in the bundle → Rego source
}

// Catalogue is the platform's system policies and example roles.
type Catalogue struct {
	Policies []SystemPolicy `json:"policies" yaml:"policies"`
	Roles    []ExampleRole  `json:"roles" yaml:"roles"`
}

// SystemPolicy is a policy of the catalogue. Path is the folder, separated by
// slashes, in which it is shown.
type SystemPolicy struct {
	ID          PolicyID       `json:"id" yaml:"id"`
	Path        string         `json:"path" yaml:"path"`
	Name        string         `json:"name" yaml:"name"`
	Description string         `json:"description" yaml:"description"`
	Resources   []ResourceType `json:"resources" yaml:"resources"`
	Actions     []ActionName   `json:"actions" yaml:"actions"`
}

// ExampleRole is a role that an account may have made for it on request.
type ExampleRole struct {
	Name              string     `json:"name" yaml:"name"`
	Description       string     `json:"description" yaml:"description"`
	ReceiveLoadAlerts bool       `json:"receive_load_alerts" yaml:"receive_load_alerts"`
	Policies          []PolicyID `json:"policies" yaml:"policies"`
}
