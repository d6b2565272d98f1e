package policies

import (
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The bodies of objects. Of groups, environments, roles, members and grants a platform
// has millions, so these are read and written by hand where they stand in the plainest
// way: as RFC 8785 writes them, in ASCII, nothing escaped, without an end. Everything
// else, and every fault, is left to the library, which takes ten times as long.
type (
	// AccountBody says that the account exists.
	AccountBody struct{}

	// GroupBody is where a group stands; nil is the root.
	GroupBody struct {
		Parent *GroupID `json:"parent"`
	}

	// EnvironmentBody is which groups an environment stands in, sorted.
	EnvironmentBody struct {
		Groups []GroupID `json:"groups"`
	}

	// PolicyBody is what a custom policy allows, and where.
	PolicyBody struct {
		Resources []ResourceType `json:"resources"`
		Actions   []ActionName   `json:"actions"`
	}

	// RoleBody is a role without its description.
	RoleBody struct {
		Name              string     `json:"name"`
		Policies          []PolicyID `json:"policies"`
		ReceiveLoadAlerts bool       `json:"receive_load_alerts"`
	}

	// MemberBody is a collaboration's status, and the account it concerns now:
	// the one it is bound to, or, before the first acceptance, the one that has
	// the address; nil while none has.
	MemberBody struct {
		Account *AccountID `json:"account"`
		Status  Status     `json:"status"`
	}

	// GrantBody is what a grant gives, and until when (nil: for ever).
	GrantBody struct {
		Roles     []RoleID   `json:"roles"`
		ExpiresAt *time.Time `json:"expires_at"`
	}

	// TokenBody is a service token: the hex SHA-256 of its secret, its scopes,
	// and when it ends (nil: never).
	TokenBody struct {
		Hash      string     `json:"hash"`
		Scopes    []Scope    `json:"scopes"`
		ExpiresAt *time.Time `json:"expires_at"`
	}
)

// ReadGroupBody reads a body that [NewObject] wrote; so do those beside it. What is
// read shares the text. The error says why it is none.
func ReadGroupBody(text string) (GroupBody, error) {
	p := plain{rest: text}
	b := GroupBody{}
	p.skip(`{"parent":`)
	if !p.null() {
		b.Parent = new(GroupID(p.text()))
	}
	if p.skip(`}`); p.whole() {
		return b, nil
	}
	return readBody[GroupBody](text)
}

// ReadEnvironmentBody is [ReadGroupBody] for an environment.
func ReadEnvironmentBody(text string) (EnvironmentBody, error) {
	p := plain{rest: text}
	p.skip(`{"groups":`)
	b := EnvironmentBody{Groups: texts[GroupID](&p)}
	if p.skip(`}`); p.whole() {
		return b, nil
	}
	return readBody[EnvironmentBody](text)
}

// ReadRoleBody is [ReadGroupBody] for a role.
func ReadRoleBody(text string) (RoleBody, error) {
	p := plain{rest: text}
	b := RoleBody{}
	p.skip(`{"name":`)
	b.Name = p.text()
	p.skip(`,"policies":`)
	b.Policies = texts[PolicyID](&p)
	p.skip(`,"receive_load_alerts":`)
	if b.ReceiveLoadAlerts = p.has(`true}`); !b.ReceiveLoadAlerts {
		p.skip(`false}`)
	}
	if p.whole() {
		return b, nil
	}
	return readBody[RoleBody](text)
}

// ReadMemberBody is [ReadGroupBody] for a member.
func ReadMemberBody(text string) (MemberBody, error) {
	p := plain{rest: text}
	b := MemberBody{}
	p.skip(`{"account":`)
	if !p.null() {
		b.Account = new(AccountID(p.text()))
	}
	p.skip(`,"status":`)
	b.Status = Status(p.text())
	if p.skip(`}`); p.whole() {
		return b, nil
	}
	return readBody[MemberBody](text)
}

// ReadGrantBody is [ReadGroupBody] for a grant.
func ReadGrantBody(text string) (GrantBody, error) {
	p := plain{rest: text}
	p.skip(`{"expires_at":null,"roles":`)
	b := GrantBody{Roles: texts[RoleID](&p)}
	if p.skip(`}`); p.whole() {
		return b, nil
	}
	return readBody[GrantBody](text)
}

func readBody[T any](text string) (T, error) {
	var b T
	err := json.Unmarshal([]byte(text), &b)
	return b, err
}

// canonical is a body that appends itself as RFC 8785 says. What it gives beside an
// error is nothing.
type canonical interface {
	appendCanonical(dst []byte) ([]byte, error)
}

// usualBody is how many bytes most bodies fit into.
const usualBody = 64

var (
	_ canonical = AccountBody{}
	_ canonical = GroupBody{}
	_ canonical = EnvironmentBody{}
	_ canonical = RoleBody{}
	_ canonical = MemberBody{}
	_ canonical = GrantBody{}
)

func (AccountBody) appendCanonical(dst []byte) ([]byte, error) { return append(dst, `{}`...), nil }

func (b GroupBody) appendCanonical(dst []byte) ([]byte, error) {
	return appendOrNull(append(dst, `{"parent":`...), b.Parent, '}')
}

func (b EnvironmentBody) appendCanonical(dst []byte) ([]byte, error) {
	return appendTexts(append(dst, `{"groups":`...), b.Groups, '}')
}

func (b RoleBody) appendCanonical(dst []byte) ([]byte, error) {
	dst, err := jsontext.AppendQuote(append(dst, `{"name":`...), b.Name)
	if err != nil {
		return nil, err
	}
	if dst, err = appendTexts(append(dst, `,"policies":`...), b.Policies, ','); err != nil {
		return nil, err
	}
	dst = strconv.AppendBool(append(dst, `"receive_load_alerts":`...), b.ReceiveLoadAlerts)
	return append(dst, '}'), nil
}

func (b MemberBody) appendCanonical(dst []byte) ([]byte, error) {
	dst, err := appendOrNull(append(dst, `{"account":`...), b.Account, ',')
	if err != nil {
		return nil, err
	}
	return appendOrNull(append(dst, `"status":`...), &b.Status, '}')
}

func (b GrantBody) appendCanonical(dst []byte) ([]byte, error) {
	end := []byte(`null`)
	if b.ExpiresAt != nil {
		var err error
		if end, err = json.Marshal(b.ExpiresAt); err != nil {
			return nil, err
		}
	}
	dst = append(append(dst, `{"expires_at":`...), end...)
	return appendTexts(append(dst, `,"roles":`...), b.Roles, '}')
}

// appendOrNull appends a string, and what comes after it.
func appendOrNull[T ~string](dst []byte, text *T, after byte) ([]byte, error) {
	if text == nil {
		return append(append(dst, `null`...), after), nil
	}
	dst, err := jsontext.AppendQuote(dst, *text)
	if err != nil {
		return nil, err
	}
	return append(dst, after), nil
}

// appendTexts appends a list of strings, and what comes after it.
func appendTexts[T ~string](dst []byte, texts []T, after byte) (_ []byte, err error) {
	dst = append(dst, '[')
	for i, text := range texts {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = jsontext.AppendQuote(dst, text); err != nil {
			return nil, err
		}
	}
	return append(dst, ']', after), nil
}

// plain reads JSON that stands in the plainest way. What stands in any other way makes
// it give up: then nothing is whole.
type plain struct {
	rest  string
	other bool
}

// has skips text, if it comes next.
func (p *plain) has(text string) bool {
	rest, ok := strings.CutPrefix(p.rest, text)
	p.rest = rest
	return ok
}

// skip skips what must come next.
func (p *plain) skip(text string) { p.other = !p.has(text) || p.other }

func (p *plain) null() bool { return p.has(`null`) }

// text reads a string.
func (p *plain) text() string {
	p.skip(`"`)
	for i := range len(p.rest) {
		switch c := p.rest[i]; {
		case c == '"':
			text := p.rest[:i]
			p.rest = p.rest[i+1:]
			return text
		case c < ' ', c > '~', c == '\\':
			p.other = true
			return ""
		}
	}
	p.other = true
	return ""
}

// texts reads a list of strings, which is not nil.
func texts[T ~string](p *plain) []T {
	p.skip(`[`)
	if p.has(`]`) {
		return []T{}
	}
	list := []T{T(p.text())}
	for !p.other && p.has(`,`) {
		list = append(list, T(p.text()))
	}
	p.skip(`]`)
	return list
}

// whole tells whether all was read, and in the plainest way.
func (p *plain) whole() bool { return p.rest == "" && !p.other }
