package authz

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/usher-authz/usher/policies"
)

// Permissions is an [Effective] in the compact form that caches keep: it decides
// on any action with a few look-ups and no allocation. It is immutable.
type Permissions struct {
	*common

	owner text[policies.AccountID]
	ends  *end  // nil: by a change alone
	since int64 // when they were computed, in nanoseconds of Unix time
}

// end is when permissions end by the clock: few do, so that the others need not carry
// it.
type end struct {
	validUntil string // RFC 3339
	until      int64  // the same, in nanoseconds of Unix time
}

// common is what the permissions of many subjects on many resources have in common:
// there are few kinds of it, each is held once, and so it is near when it is needed.
//
// The actions that are granted are bits, in the order of Policy.names. The number
// of bits set below an action's is its place in which, and that leads to the
// policies that grant it:
//
//	bits   0 1 0 0 1 1 …      actions 1, 4 and 5 of the catalogue are granted
//	which    0     1 0        … by sets[0], sets[1] and sets[0]
//	sets   [env.view] [env.start env.view] …
//
// Actions that only custom policies name are few, and stand in extra, sorted.
type common struct {
	policy            *Policy
	reason            policies.Reason
	level             policies.Level
	roles             []string
	receiveLoadAlerts bool
	policies          []policies.PolicyID
	bits              []uint64
	which             []uint16
	extra             []policies.ActionName
	extraOf           []uint16
	sets              [][]policies.PolicyID
}

// Compact makes the compact form of e, which was computed under p at the time at.
// The error is that of a valid_until that is no time.
func (p *Policy) Compact(e *Effective, at time.Time) (*Permissions, error) {
	ends, err := endOf(e.ValidUntil)
	if err != nil {
		return nil, err
	}
	made := &Permissions{owner: newText(nil, e.Owner), since: at.UnixNano(), ends: ends}
	c := &common{policy: p, reason: e.Reason, level: e.Level, roles: e.Roles, receiveLoadAlerts: e.ReceiveLoadAlerts}
	of := map[policies.ActionName][]policies.PolicyID{}
	for _, given := range e.Policies {
		c.policies = append(c.policies, given.ID)
		for _, name := range given.Actions {
			of[name] = append(of[name], given.ID)
		}
	}
	c.index(of)
	made.common = p.commons.share(c)
	return made, nil
}

// endOf is nil without validUntil.
func endOf(validUntil string) (*end, error) {
	if validUntil == "" {
		return nil, nil //nolint:nilnil // there is no end
	}
	at, err := time.Parse(time.RFC3339Nano, validUntil)
	if err != nil {
		return nil, err
	}
	return &end{validUntil, saturated(at)}, nil
}

// saturated is t in nanoseconds, or the greatest number of them: no clock gets
// there, so that a grant which ends in the year 2997 does not end before.
func saturated(t time.Time) int64 {
	const lastSecond = math.MaxInt64 / int64(time.Second)
	if t.Unix() >= lastSecond {
		return math.MaxInt64
	}
	return t.UnixNano()
}

// index fills in the bits; of has the sorted policies that grant each action.
func (p *common) index(of map[policies.ActionName][]policies.PolicyID) {
	type numbered struct {
		name   policies.ActionName
		number int
	}
	actions := make([]numbered, 0, len(of))
	for name := range of {
		number, ok := p.policy.numbers[name]
		if !ok {
			number = math.MaxInt
		}
		actions = append(actions, numbered{name, number})
	}
	slices.SortFunc(actions, func(a, b numbered) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.name, b.name))
	})
	for _, action := range actions {
		set := uint16(p.setOf(of[action.name]))
		if action.number == math.MaxInt {
			p.extra = append(p.extra, action.name)
			p.extraOf = append(p.extraOf, set)
			continue
		}
		word := action.number / 64
		for len(p.bits) <= word {
			p.bits = append(p.bits, 0)
		}
		p.bits[word] |= 1 << (action.number % 64)
		p.which = append(p.which, set)
	}
}

// setOf finds or adds one list of policies. A role has a few dozen policies, and
// few actions stand in two of them.
func (p *common) setOf(ids []policies.PolicyID) int {
	for i, have := range p.sets {
		if slices.Equal(have, ids) {
			return i
		}
	}
	p.sets = append(p.sets, ids)
	return len(p.sets) - 1
}

// granting gives the policies that grant the action, nil if none does, and
// whether the action is one of the catalogue's.
func (p *common) granting(name policies.ActionName) (ids []policies.PolicyID, system bool) {
	number, ok := p.policy.numbers[name]
	if !ok {
		if at, found := slices.BinarySearch(p.extra, name); found {
			return p.sets[p.extraOf[at]], false
		}
		return nil, false
	}
	word, bit := number/64, uint64(1)<<(number%64)
	if word >= len(p.bits) || p.bits[word]&bit == 0 {
		return nil, true
	}
	place := bits.OnesCount64(p.bits[word] & (bit - 1))
	for _, below := range p.bits[:word] {
		place += bits.OnesCount64(below)
	}
	return p.sets[p.which[place]], true
}

// Fresh tells whether the permissions may be used at now: before they were
// computed a grant may have lived that they do not know, and once a grant that
// they rest on has ended others count.
func (p *Permissions) Fresh(now time.Time) bool { return p.freshAt(now.UnixNano()) }

func (p *Permissions) freshAt(now int64) bool {
	return p.since <= now && (p.ends == nil || now < p.ends.until)
}

func (p *Permissions) validUntil() string {
	if p.ends == nil {
		return ""
	}
	return p.ends.validUntil
}

// Decide is effective + action, the one thing about a decision that is composed
// in Go (domain.md, The check): the answer to q, whose subject and resource the
// permissions must be of, from view, which must be the one that they were computed
// from, or one at which they still hold. It explains nothing.
func (p *Permissions) Decide(view View, q *Question) (d Decision) {
	action := policies.ActionName(q.Action)
	d.Reason, d.Owner, d.Revision = p.reason, p.owner.string(), view.Revision()
	if d.Reason == policies.ReasonUnknownSubject || d.Reason == policies.ReasonUnknownResource {
		return d
	}
	granting, system := p.granting(action)
	if granting == nil && !system && !knownToOwner(view, d.Owner, action) {
		d.Reason = policies.ReasonUnknownAction
		return d
	}
	if d.Reason != "" {
		d.Allow = d.Reason == policies.ReasonOwner
		return d
	}
	d.Level, d.Roles, d.ValidUntil = p.level, p.roles, p.validUntil()
	if granting == nil {
		d.Reason = policies.ReasonActionNotGranted
		return d
	}
	d.Allow, d.Reason, d.Policies = true, policies.ReasonGranted, granting
	return d
}

func knownToOwner(view View, owner policies.AccountID, action policies.ActionName) bool {
	a, ok := view.Account(owner)
	return ok && a.KnowsAction(action)
}

// Effective is what [Policy.Compact] was given.
func (p *Permissions) Effective() *Effective {
	e := Effective{
		Reason: p.reason, Owner: p.owner.string(), Level: p.level, Roles: p.roles, ReceiveLoadAlerts: p.receiveLoadAlerts, ValidUntil: p.validUntil(),
	}
	if p.level == "" {
		return &e
	}
	e.Policies = make([]EffectivePolicy, len(p.policies))
	for i, id := range p.policies {
		e.Policies[i] = EffectivePolicy{ID: id, Actions: p.actionsOf(id)}
	}
	return &e
}

func (p *common) actionsOf(id policies.PolicyID) []policies.ActionName {
	names := []policies.ActionName{}
	for _, name := range p.policy.names {
		if ids, _ := p.granting(name); slices.Contains(ids, id) {
			names = append(names, name)
		}
	}
	for i, name := range p.extra {
		if slices.Contains(p.sets[p.extraOf[i]], id) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
