package authz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"unsafe"

	"github.com/usher-authz/usher/policies"
)

// Owner of the resource that the permissions are of; empty for what is unknown.
func (p *Permissions) Owner() policies.AccountID { return p.owner.string() }

// Reason is what ended the search; empty when a level was found.
func (p *Permissions) Reason() policies.Reason { return p.reason }

// Size is about what the permissions hold in memory, in bytes, without the policy
// in force, which all share.
func (p *Permissions) Size() int {
	const word, text = 8, int(unsafe.Sizeof(""))
	size := int(unsafe.Sizeof(*p)+unsafe.Sizeof(*p.common)) + len(p.owner.string()) + len(p.validUntil()) +
		word*len(p.bits) + 2*(len(p.which)+len(p.extraOf)) + text*(len(p.policies)+len(p.extra))
	for _, role := range p.roles {
		size += text + len(role)
	}
	for _, name := range p.extra {
		size += len(name)
	}
	for _, set := range p.sets {
		size += 3*word + text*len(set)
	}
	return size
}

// The binary form of permissions, for stores outside the process:
//
//	SINCE                   varint, nanoseconds of Unix time
//	OWNER VALID_UNTIL REASON LEVEL    each a length and bytes
//	ALERTS                  0 or 1
//	ROLES                   a number of texts
//	POLICIES                a number of them, each: its place in the catalogue + 1,
//	                        or 0 and its id
//	BITS                    a number of words, eight bytes each, big-endian
//	SETS                    a number of them, each a number of places in POLICIES
//	WHICH                   for each bit set, a place in SETS
//	EXTRA                   a number of them, each a text and a place in SETS
//
// Numbers, lengths and places are uvarints. Places in the catalogue and bits mean
// something only under the policy in force that they were written under: who
// stores the form must store its digest beside it.

// AppendBinary appends the binary form to dst.
func (p *Permissions) AppendBinary(dst []byte) []byte {
	dst = binary.AppendVarint(dst, p.since)
	dst = appendText(dst, p.owner.string())
	dst = appendText(dst, p.validUntil())
	return p.appendBinary(dst)
}

func (p *common) appendBinary(dst []byte) []byte {
	dst = appendText(dst, p.reason)
	dst = appendText(dst, p.level)
	alerts := byte(0)
	if p.receiveLoadAlerts {
		alerts = 1
	}
	dst = append(dst, alerts)
	dst = appendNumber(dst, len(p.roles))
	for _, role := range p.roles {
		dst = appendText(dst, role)
	}
	place := make(map[policies.PolicyID]int, len(p.policies))
	dst = appendNumber(dst, len(p.policies))
	for i, id := range p.policies {
		place[id] = i
		dst = p.policy.appendPolicy(dst, id)
	}
	dst = appendNumber(dst, len(p.bits))
	for _, word := range p.bits {
		dst = binary.BigEndian.AppendUint64(dst, word)
	}
	dst = appendNumber(dst, len(p.sets))
	for _, set := range p.sets {
		dst = appendNumber(dst, len(set))
		for _, id := range set {
			dst = appendNumber(dst, place[id])
		}
	}
	for _, set := range p.which {
		dst = appendNumber(dst, int(set))
	}
	dst = appendNumber(dst, len(p.extra))
	for i, name := range p.extra {
		dst = appendNumber(appendText(dst, name), int(p.extraOf[i]))
	}
	return dst
}

func appendText[S ~string](dst []byte, s S) []byte { return append(appendNumber(dst, len(s)), s...) }

func appendNumber(dst []byte, n int) []byte {
	return binary.AppendUvarint(dst, uint64(n))
}

// appendPolicy names a policy by its place in the catalogue, or in full.
func (p *Policy) appendPolicy(dst []byte, id policies.PolicyID) []byte {
	at := slices.IndexFunc(p.source.Catalogue.Policies, func(s policies.SystemPolicy) bool { return s.ID == id })
	if at < 0 {
		return appendText(append(dst, 0), id)
	}
	return appendNumber(dst, at+1)
}

// DecodePermissions reads the binary form of permissions that were computed under
// a policy in force with p's digest. What is not of the form is an error; it takes
// no more memory than a small multiple of data's length.
func (p *Policy) DecodePermissions(data []byte) (*Permissions, error) {
	d := permissionsDecoder{rest: data}
	made := &Permissions{since: d.varint(), owner: newText(nil, policies.AccountID(d.text()))}
	var err error
	if made.ends, err = endOf(d.text()); err != nil {
		d.fail("valid_until is no time")
	}
	// What is left is the form of the common part, which most have in common: who has it
	// decoded already spares the rest.
	if made.common = p.commons.find(d.rest); made.common != nil && d.err == nil {
		return made, nil
	}
	c := &common{
		policy: p, reason: policies.Reason(d.text()), level: policies.Level(d.text()), receiveLoadAlerts: d.number(1) == 1, roles: d.texts(),
	}
	if (c.reason == "") != (c.level != "") {
		d.fail("a reason with a level, or neither")
	}
	d.policies(c)
	d.grants(c)
	if len(d.rest) > 0 {
		d.fail("there is something after the end")
	}
	if d.err != nil {
		return nil, fmt.Errorf("decode permissions: %w", d.err)
	}
	made.common = p.commons.share(c)
	return made, nil
}

// permissionsDecoder takes the form apart, and keeps the first fault; after that
// it gives zeros.
type permissionsDecoder struct {
	rest []byte
	err  error
}

func (d *permissionsDecoder) fail(reason string) {
	if d.err == nil {
		d.err = errors.New(reason)
	}
	d.rest = nil
}

func (d *permissionsDecoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail("a number is cut off")
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// number reads a number up to most; if that is negative, there is none.
func (d *permissionsDecoder) number(most int) int {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || most < 0 || v > uint64(most) {
		d.fail("a number is cut off or too large")
		return 0
	}
	d.rest = d.rest[n:]
	return int(v)
}

// count reads how many things follow, each of which takes a byte at least.
func (d *permissionsDecoder) count() int { return d.number(len(d.rest)) }

func (d *permissionsDecoder) text() string {
	n := d.count()
	if n > len(d.rest) {
		d.fail("a text is cut off")
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

func (d *permissionsDecoder) texts() []string {
	n := d.count()
	if n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for range n {
		list = append(list, d.text())
	}
	return list
}

func (d *permissionsDecoder) policies(made *common) {
	system := made.policy.source.Catalogue.Policies
	n := d.count()
	if n > 0 {
		made.policies = make([]policies.PolicyID, 0, n)
	}
	for range n {
		if place := d.number(len(system)); place > 0 {
			made.policies = append(made.policies, system[place-1].ID)
		} else {
			made.policies = append(made.policies, policies.PolicyID(d.text()))
		}
	}
}

// grants reads bits, sets, which and extra.
func (d *permissionsDecoder) grants(made *common) {
	granted := d.bits(made)
	n := d.count()
	if n > 0 {
		made.sets = make([][]policies.PolicyID, 0, n)
	}
	for range n {
		set := make([]policies.PolicyID, 0, d.count())
		for range cap(set) {
			at := d.number(len(made.policies) - 1)
			if d.err != nil {
				return
			}
			set = append(set, made.policies[at])
		}
		if len(set) == 0 {
			d.fail("a set has no policies")
		}
		made.sets = append(made.sets, set)
	}
	if granted > len(d.rest) {
		d.fail("which is cut off")
		return
	}
	if granted > 0 {
		made.which = make([]uint16, 0, granted)
	}
	for range granted {
		made.which = append(made.which, d.set(made))
	}
	for range d.count() {
		made.extra = append(made.extra, policies.ActionName(d.text()))
		made.extraOf = append(made.extraOf, d.set(made))
	}
	if !slices.IsSorted(made.extra) {
		d.fail("the actions are not in order")
	}
}

// set reads a place in the sets.
func (d *permissionsDecoder) set(made *common) uint16 {
	return uint16(d.number(min(len(made.sets)-1, math.MaxUint16)))
}

// bits reads the bits, and gives how many are set.
func (d *permissionsDecoder) bits(made *common) int {
	const word = 8
	actions := len(made.policy.names)
	n := d.number((actions + 63) / 64)
	if n*word > len(d.rest) {
		d.fail("the bits are cut off")
		return 0
	}
	if n > 0 {
		made.bits = make([]uint64, n)
	}
	granted, last := 0, -1
	for i := range made.bits {
		made.bits[i] = binary.BigEndian.Uint64(d.rest[i*word:])
		granted += bits.OnesCount64(made.bits[i])
		if made.bits[i] != 0 {
			last = i*64 + bits.Len64(made.bits[i]) - 1
		}
	}
	d.rest = d.rest[n*word:]
	if last >= actions {
		d.fail("a bit stands for no action")
	}
	return granted
}
