package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// object is something that the log keeps: a row of a table, or the rows of a grant.
type object interface {
	key() objectKey
	// body is what decisions rest on, in the form of policies' bodies; nil if there
	// is nothing of the kind.
	body() any
	// public is what the audit shows beside that, and personal what it shows of
	// persons (emails, their names), which can be erased; either may be nil.
	public() any
	personal() any
}

// objectKey names an object in the log. Owner is that of the log's rows: an
// account's own, "" for what belongs to the platform.
type objectKey struct {
	kind  policies.Kind
	owner policies.AccountID
	id    string
}

// kindEpoch is the audit item of a revision that begins an epoch. No decision rests
// on it, so no [policies.Object] has this kind.
const kindEpoch policies.Kind = "epoch"

// touch is one object as it was and as it is; nil: it is not there.
type touch struct{ before, after object }

func (t touch) key() objectKey {
	if t.after != nil {
		return t.after.key()
	}
	return t.before.key()
}

// made, replaced and gone are the three sorts of touch.
func made(o object) touch                 { return touch{after: o} }
func replaced(before, after object) touch { return touch{before: before, after: after} }
func gone(o object) touch                 { return touch{before: o} }

// draft gathers what one revision touches. An object that is touched again keeps
// its first before and gets its last after.
type draft struct {
	touches []touch
	index   map[objectKey]int
}

func (d *draft) add(touches ...touch) {
	if d.index == nil {
		d.index = make(map[objectKey]int, len(touches))
	}
	for _, t := range touches {
		key := t.key()
		if i, ok := d.index[key]; ok {
			d.touches[i].after = t.after
			continue
		}
		d.index[key] = len(d.touches)
		d.touches = append(d.touches, t)
	}
}

// clone is a draft to add to, while d stays for another attempt.
func (d *draft) clone() draft {
	return draft{touches: slices.Clone(d.touches), index: maps.Clone(d.index)}
}

// entry is one row of changes.
type entry struct {
	owner                      policies.AccountID
	kind                       policies.Kind
	id                         string
	before, after              *string
	personal                   *string
	personalSalt, personalHash []byte
}

// record is a revision ready for the log, but for its number and its hash.
type record struct {
	objects                  jsontext.Value // of policies.Change
	touched                  []policies.Object
	entries                  []entry
	auditHash                policies.Hash
	address                  *string
	addressSalt, addressHash []byte
}

// owners are those of the entries, each once.
func (r *record) owners() []policies.AccountID {
	owners := make([]policies.AccountID, 0, 1)
	for _, e := range r.entries {
		if !slices.Contains(owners, e.owner) {
			owners = append(owners, e.owner)
		}
	}
	return owners
}

// auditPart is what the audit hash is of: this as canonical JSON.
type auditPart struct {
	Account   policies.AccountID
	Action    string
	Address   string // salted hash, hex; "" for none
	Items     []auditItem
	Local     bool
	RequestID string
	Time      time.Time
	Token     string
	TokenName string
}

type auditItem struct {
	After    jsontext.Value // canonical, as before
	Before   jsontext.Value
	ID       string
	Kind     policies.Kind
	Owner    policies.AccountID
	Personal string // salted hash, hex; "" for none
}

// encode writes down what d touches. It returns nil if d changes nothing. It needs
// no lock; [record.seal] does the rest.
func (d *draft) encode(random io.Reader) (*record, error) {
	r := &record{touched: make([]policies.Object, 0, len(d.touches)), entries: make([]entry, 0, len(d.touches))}
	for _, t := range d.touches {
		if err := r.add(t, random); err != nil {
			return nil, err
		}
	}
	if len(r.entries) == 0 {
		return nil, nil
	}
	var err error
	if r.objects, err = policies.EncodeObjects(r.touched); err != nil {
		return nil, fmt.Errorf("encode the objects of a revision: %w", err)
	}
	return r, nil
}

// imported is encode and seal for what an import touches, with the entries of one kind
// together.
func (d *draft) imported(at time.Time, actor Actor, random io.Reader) (*record, error) {
	r, err := d.encode(random)
	if err != nil || r == nil {
		return nil, err
	}
	r.arrange()
	return r, r.seal(actionImport, at, actor, random)
}

// arrange puts grants behind their members' records, among which they are: so entries of
// one kind stand together, and are found as one run. It comes before [record.seal], which
// hashes them in their order.
func (r *record) arrange() {
	place := func(e entry) int {
		if e.kind == policies.KindGrant {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(r.entries, func(a, b entry) int { return cmp.Compare(place(a), place(b)) })
}

// runAt is how many entries from the one at i on are of its owner and kind, nil if so
// is the one before.
func runAt(entries []entry, i int) *int32 {
	same := func(j int) bool { return entries[j].owner == entries[i].owner && entries[j].kind == entries[i].kind }
	if i > 0 && same(i-1) {
		return nil
	}
	n := int32(1)
	for j := i + 1; j < len(entries) && same(j); j++ {
		n++
	}
	return &n
}

// seal adds who did it and when, and hashes that.
func (r *record) seal(action string, at time.Time, actor Actor, random io.Reader) error {
	part := auditPart{
		Action: action, Time: at, Token: actor.Token, TokenName: actor.TokenName, Account: actor.Account,
		Local: actor.Local, RequestID: actor.RequestID, Items: make([]auditItem, 0, len(r.entries)),
	}
	for _, e := range r.entries {
		part.Items = append(part.Items, auditItem{
			Kind: e.kind, Owner: e.owner, ID: e.id,
			Before: rawOrNull(e.before), After: rawOrNull(e.after), Personal: hex.EncodeToString(e.personalHash),
		})
	}
	if actor.Address != "" {
		var err error
		if r.addressSalt, r.addressHash, err = saltedHash(actor.Address, random); err != nil {
			return err
		}
		r.address, part.Address = &actor.Address, hex.EncodeToString(r.addressHash)
	}
	var err error
	r.auditHash, err = part.hash()
	return err
}

// hash is the audit hash.
func (p *auditPart) hash() (policies.Hash, error) {
	at, err := policies.CanonicalJSON(p.Time)
	if err != nil {
		return policies.Hash{}, fmt.Errorf("encode the time of a revision: %w", err)
	}
	const around = len(`{"after":,"before":,"id":"","kind":"environment","owner":"","personal":""},`)
	w, size := &policies.CanonicalWriter{}, 1024 // who and when
	for _, item := range p.Items {
		size += around + len(item.After) + len(item.Before) + len(item.ID) + len(item.Owner) + len(item.Personal)
	}
	w.Grow(size)
	w.Text(`{"account":`, string(p.Account))
	w.Text(`,"action":`, p.Action)
	w.Text(`,"address":`, p.Address)
	w.Raw(`,"items":`, nil)
	w.Array(len(p.Items), func(i int) {
		item := &p.Items[i]
		w.Raw(`{"after":`, item.After)
		w.Raw(`,"before":`, item.Before)
		w.Text(`,"id":`, item.ID)
		w.Text(`,"kind":`, string(item.Kind))
		w.Text(`,"owner":`, string(item.Owner))
		w.Text(`,"personal":`, item.Personal)
		w.Raw(`}`, nil)
	})
	w.Raw(`,"local":`+strconv.FormatBool(p.Local), nil)
	w.Text(`,"request_id":`, p.RequestID)
	w.Raw(`,"time":`, at)
	w.Text(`,"token":`, p.Token)
	w.Text(`,"token_name":`, p.TokenName)
	w.Raw(`}`, nil)
	text, err := w.Value()
	if err != nil {
		return policies.Hash{}, fmt.Errorf("encode the audit part of a revision: %w", err)
	}
	return sha256.Sum256(text), nil
}

// add writes down the object for the feed, if what decisions rest on changed, and the
// entry for the log, if anything did.
func (r *record) add(t touch, random io.Reader) error {
	key := t.key()
	bodyBefore, publicBefore, personalBefore, err := encodeObject(t.before)
	if err != nil {
		return err
	}
	bodyAfter, publicAfter, personalAfter, err := encodeObject(t.after)
	if err != nil {
		return err
	}
	sameBody := bytes.Equal(bodyBefore, bodyAfter)
	if sameBody && bytes.Equal(publicBefore, publicAfter) && bytes.Equal(personalBefore, personalAfter) &&
		(t.before == nil) == (t.after == nil) {
		return nil
	}
	if !sameBody {
		owner := key.owner
		if key.kind == policies.KindAccount {
			owner = "" // policies.Object: an account has no owner
		}
		object := policies.Object{Kind: key.kind, Owner: owner, ID: key.id, Body: bodyAfter}
		if bodyAfter == nil {
			object.Body = jsontext.Value("null")
		}
		r.touched = append(r.touched, object)
	}
	if key.kind == policies.KindPolicyInForce || key.kind == policies.KindToken {
		// The audit has the digest of the one (policies_in_force has the rest), and
		// no hash of the other.
		bodyBefore, bodyAfter = nil, nil
	}
	e := entry{owner: key.owner, kind: key.kind, id: key.id}
	if e.before, err = auditText(t.before != nil, bodyBefore, publicBefore); err != nil {
		return err
	}
	if e.after, err = auditText(t.after != nil, bodyAfter, publicAfter); err != nil {
		return err
	}
	if personalBefore != nil || personalAfter != nil {
		text, err := policies.CanonicalJSON(personalPair{personalBefore, personalAfter})
		if err != nil {
			return fmt.Errorf("encode %s %q: %w", key.kind, key.id, err)
		}
		personal := string(text)
		e.personal = &personal
		if e.personalSalt, e.personalHash, err = saltedHash(personal, random); err != nil {
			return err
		}
	}
	r.entries = append(r.entries, e)
	return nil
}

// personalPair is what changes.personal holds.
type personalPair struct {
	Before jsontext.Value `json:"before,omitzero"`
	After  jsontext.Value `json:"after,omitzero"`
}

func encodeObject(o object) (body, public, personal jsontext.Value, err error) {
	if o == nil {
		return nil, nil, nil, nil
	}
	encode := func(v any) jsontext.Value {
		if v == nil || err != nil {
			return nil
		}
		var value jsontext.Value
		value, err = policies.CanonicalJSON(v)
		return value
	}
	body, public, personal = encode(o.body()), encode(o.public()), encode(o.personal())
	if err != nil {
		key := o.key()
		return nil, nil, nil, fmt.Errorf("encode %s %q of owner %q: %w", key.kind, key.id, key.owner, err)
	}
	return body, public, personal, nil
}

// auditText is what the audit shows of an object that is there: the members of its
// body and of its public part, in one JSON object.
func auditText(there bool, body, public jsontext.Value) (*string, error) {
	switch {
	case !there:
		return nil, nil
	case len(public) <= len("{}"):
		text := "{}"
		if body != nil {
			text = string(body)
		}
		return &text, nil
	case len(body) <= len("{}"):
		text := string(public)
		return &text, nil
	}
	joined := jsontext.Value(string(body[:len(body)-1]) + "," + string(public[1:]))
	if err := joined.Canonicalize(); err != nil {
		return nil, fmt.Errorf("join the parts of an audit entry: %w", err)
	}
	text := string(joined)
	return &text, nil
}

func rawOrNull(text *string) jsontext.Value {
	if text == nil {
		return jsontext.Value("null")
	}
	return jsontext.Value(*text)
}

const saltBytes = 16

// saltedHash hides text behind a hash that cannot be guessed once the salt is erased.
func saltedHash(text string, random io.Reader) (salt, sum []byte, err error) {
	salt = make([]byte, saltBytes)
	if _, err := io.ReadFull(random, salt); err != nil {
		return nil, nil, fmt.Errorf("read random bytes for a salt: %w", err)
	}
	return salt, saltedSum(salt, text), nil
}

func saltedSum(salt []byte, text string) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(text))
	return h.Sum(nil)
}
