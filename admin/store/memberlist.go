package store

import (
	"cmp"
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

// matches tells whether a record is one of those wanted, as the queries do.
func (f MemberFilter) matches(r memberRow) bool {
	key := policies.NameKey(f.Search)
	return (strings.Contains(r.EmailKey, key) || strings.Contains(policies.NameKey(r.DisplayName), key)) &&
		(len(f.Statuses) == 0 || slices.Contains(f.Statuses, r.Status))
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

// Of some members by name. Parameters: owner, ids, the key and the id to begin after,
// limit.
const sqlMembersAmong = selectMembers + `
where c.owner = $1 and c.id = any ($2::text[]) and (c.name_key, c.id) > ($3, $4) order by c.name_key, c.id limit $5`

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

// memberPlace is where a page of the list begins.
type memberPlace struct {
	memberOrder
	list      string
	key, id   string // of the record to begin after
	beginning bool
}

// place is where the page begins. Errors: InvalidError (the sort), CursorError.
func (f MemberFilter) place(page Page) (memberPlace, error) {
	order, ok := memberOrderOf(f.Sort)
	if !ok {
		return memberPlace{}, invalid("sort", "must be name, email, status or last_changed")
	}
	p := memberPlace{memberOrder: order, list: "members/" + string(f.Sort), beginning: page.Cursor == ""}
	first, firstID := order.begin, ""
	if f.Descending {
		first, firstID, p.list = order.end, highest, p.list+"/down"
	}
	keys, err := decodeCursor(p.list, page.Cursor, first, firstID)
	if err != nil {
		return memberPlace{}, err
	}
	p.key, p.id = keys[0], keys[1]
	if f.Sort == SortLastChanged && !p.beginning {
		if _, err := time.Parse(time.RFC3339Nano, p.key); err != nil {
			return memberPlace{}, &CursorError{Cursor: page.Cursor}
		}
	}
	return p, nil
}

// comes tells whether a record stands after the place, in the order of the filter.
func (p memberPlace) comes(r memberRow, f MemberFilter) bool {
	if p.beginning {
		return true
	}
	order := strings.Compare(p.memberOrder.key(r), p.key)
	if f.Sort == SortLastChanged {
		at, _ := time.Parse(time.RFC3339Nano, p.key) // place has looked at it
		order = r.LastChanged.Compare(at)
	}
	order = cmp.Or(order, strings.Compare(string(r.ID), p.id))
	if f.Descending {
		return order < 0
	}
	return order > 0
}

// ListMembers lists the records of owner. Errors: InvalidError (the sort),
// NotFoundError (the owner), CursorError (also one of another order).
func (s *Store) ListMembers(ctx context.Context, owner policies.AccountID, filter MemberFilter, page Page) (List[Item[policies.Member]], error) {
	place, err := filter.place(page)
	if err != nil {
		return List[Item[policies.Member]]{}, err
	}
	sql := place.up
	if filter.Descending {
		sql = place.down
	}
	statuses := filter.Statuses
	if statuses == nil {
		statuses = []policies.Status{}
	}
	rows, err := getAll[memberRow](ctx, s, sql, owner, policies.NameKey(filter.Search), statuses, place.key, place.id, page.size()+1)
	if err != nil {
		return List[Item[policies.Member]]{}, err
	}
	if len(rows) == 0 {
		if _, err := s.GetAccount(ctx, owner); err != nil {
			return List[Item[policies.Member]]{}, err
		}
	}
	return place.page(rows, page)
}

// ListMember is the list of members for who sees just one of them. Errors as for
// [Store.ListMembers].
func (s *Store) ListMember(
	ctx context.Context, owner policies.AccountID, id policies.CollaborationID, filter MemberFilter, page Page,
) (List[Item[policies.Member]], error) {
	place, err := filter.place(page)
	if err != nil {
		return List[Item[policies.Member]]{}, err
	}
	rows, err := getAll[memberRow](ctx, s, sqlMember, owner, id)
	if err != nil {
		return List[Item[policies.Member]]{}, err
	}
	rows = slices.DeleteFunc(rows, func(r memberRow) bool { return !filter.matches(r) || !place.comes(r, filter) })
	return place.page(rows, page)
}

// ListMembersAmong lists those of some records of owner that are there, by name; its
// cursors are those of [Store.ListMembers] in this order. Errors: CursorError.
func (s *Store) ListMembersAmong(
	ctx context.Context, owner policies.AccountID, ids []policies.CollaborationID, page Page,
) (List[Item[policies.Member]], error) {
	place, err := MemberFilter{Sort: SortName}.place(page)
	if err != nil {
		return List[Item[policies.Member]]{}, err
	}
	rows, err := getAll[memberRow](ctx, s, sqlMembersAmong, owner, ids, place.key, place.id, page.size()+1)
	if err != nil {
		return List[Item[policies.Member]]{}, err
	}
	return place.page(rows, page)
}

func (p memberPlace) page(rows []memberRow, page Page) (List[Item[policies.Member]], error) {
	return pagedErr(rows, page, memberRow.item, func(r memberRow) string { return encodeCursor(p.list, p.memberOrder.key(r), string(r.ID)) })
}
