package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/usher-authz/usher/policies"
)

// MemberSort is an order of members; equals are ordered by id.
type MemberSort string

// The orders of members.
const (
	SortName        MemberSort = "name" // the owner's display name for the member, without case; the default
	SortEmail       MemberSort = "email"
	SortStatus      MemberSort = "status"
	SortLastChanged MemberSort = "last_changed"
)

// MemberFilter chooses and orders members.
type MemberFilter struct {
	// Search is a part of the email or the display name, without case.
	Search string
	// Statuses are those wanted; none wants all, removed ones too.
	Statuses   []policies.Status
	Sort       MemberSort
	Descending bool
}

// Matches tells whether a member is one of those wanted.
func (f MemberFilter) Matches(m policies.Member) bool {
	key := policies.NameKey(f.Search)
	return (strings.Contains(policies.EmailKey(m.Email), key) || strings.Contains(policies.NameKey(m.DisplayName), key)) &&
		(len(f.Statuses) == 0 || slices.Contains(f.Statuses, m.Status))
}

// Parameters: owner, search key, statuses, the key and the id to begin after, limit.
const (
	whereMembers = `
where c.owner = $1 and ($2 = '' or position($2 in c.email_key) > 0 or position($2 in c.name_key) > 0)
    and (cardinality($3::text[]) = 0 or c.status = any ($3::text[]))`

	sqlMembersByName       = selectMembers + whereMembers + ` and (c.name_key, c.id) > ($4, $5) order by c.name_key, c.id limit $6`
	sqlMembersByNameDown   = selectMembers + whereMembers + ` and (c.name_key, c.id) < ($4, $5) order by c.name_key desc, c.id desc limit $6`
	sqlMembersByEmail      = selectMembers + whereMembers + ` and (c.email_key, c.id) > ($4, $5) order by c.email_key, c.id limit $6`
	sqlMembersByEmailDown  = selectMembers + whereMembers + ` and (c.email_key, c.id) < ($4, $5) order by c.email_key desc, c.id desc limit $6`
	sqlMembersByStatus     = selectMembers + whereMembers + ` and (c.status, c.id) > ($4, $5) order by c.status, c.id limit $6`
	sqlMembersByStatusDown = selectMembers + whereMembers + ` and (c.status, c.id) < ($4, $5) order by c.status desc, c.id desc limit $6`
	sqlMembersByChange     = selectMembers + whereMembers + ` and (c.last_changed, c.id) > ($4::text::timestamptz, $5) order by c.last_changed, c.id limit $6`
	sqlMembersByChangeDown = selectMembers + whereMembers + ` and (c.last_changed, c.id) < ($4::text::timestamptz, $5)
order by c.last_changed desc, c.id desc limit $6`
)

// highest is beyond every key and id: a character that no Unicode text has.
const highest = "\U0010FFFF\U0010FFFF"

// memberOrder is one order of the list: its query both ways, and its key.
type memberOrder struct {
	up, down   string
	begin, end string // before the first and after the last
	key        func(memberRow) string
}

func memberOrderOf(s MemberSort) (memberOrder, bool) {
	switch s {
	case SortName, "":
		return memberOrder{sqlMembersByName, sqlMembersByNameDown, "", highest, func(r memberRow) string { return policies.NameKey(r.DisplayName) }}, true
	case SortEmail:
		return memberOrder{sqlMembersByEmail, sqlMembersByEmailDown, "", highest, func(r memberRow) string { return r.EmailKey }}, true
	case SortStatus:
		return memberOrder{sqlMembersByStatus, sqlMembersByStatusDown, "", highest, func(r memberRow) string { return string(r.Status) }}, true
	case SortLastChanged:
		return memberOrder{sqlMembersByChange, sqlMembersByChangeDown, "-infinity", "infinity", func(r memberRow) string {
			return r.LastChanged.UTC().Format(time.RFC3339Nano)
		}}, true
	default:
		return memberOrder{}, false
	}
}

// ListMembers lists the records of owner. Errors: InvalidError (the sort or a
// status), NotFoundError (the owner), CursorError (also one of another order).
func (s *Store) ListMembers(ctx context.Context, owner policies.AccountID, filter MemberFilter, page Page) (List[Item[policies.Member]], error) {
	order, ok := memberOrderOf(filter.Sort)
	if !ok {
		return List[Item[policies.Member]]{}, invalid("sort", "must be name, email, status or last_changed")
	}
	sql, first, list := order.up, order.begin, "members/"+string(filter.Sort)
	if filter.Descending {
		sql, first, list = order.down, order.end, list+"/down"
	}
	firstID := ""
	if filter.Descending {
		firstID = highest
	}
	keys, err := decodeCursor(list, page.Cursor, first, firstID)
	if err != nil {
		return List[Item[policies.Member]]{}, err
	}
	if filter.Sort == SortLastChanged && page.Cursor != "" {
		if _, err := time.Parse(time.RFC3339Nano, keys[0]); err != nil {
			return List[Item[policies.Member]]{}, &CursorError{Cursor: page.Cursor}
		}
	}
	statuses := filter.Statuses
	if statuses == nil {
		statuses = []policies.Status{}
	}
	rows, err := getAll[memberRow](ctx, s, sql, owner, policies.NameKey(filter.Search), statuses, keys[0], keys[1], page.size()+1)
	if err != nil {
		return List[Item[policies.Member]]{}, err
	}
	if len(rows) == 0 {
		if _, err := s.GetAccount(ctx, owner); err != nil {
			return List[Item[policies.Member]]{}, err
		}
	}
	return pagedErr(rows, page, memberRow.item, func(r memberRow) string { return encodeCursor(list, order.key(r), string(r.ID)) })
}
