package store

// A list of the log goes along the index of what narrows it most: an object's own
// entries, a member's, the revisions of an actor or of an action, the entries of a
// kind; or else along the log.
//
// The index of kinds has the first entry of each run of a revision.
//
// An owner's revisions are found by the first that they touch, which most touch alone,
// and by an index of those that touch several.
//
// Parameters: since, until, actor, action, kind, id, member, the revision and the
// ordinal to begin after, limit, the last revision to look at, owner.
const (
	// A revision's latest is the latest time up to it: so the first revision that may
	// be wanted, and the last, are found though a clock went back.
	sqlEntryBounds = `select
    case when $1::timestamptz is null then 0 else
        coalesce((select revision from revisions where latest >= $1 order by latest, revision limit 1), (1::bigint << 53) - 1) end as first,
    case when $2::timestamptz is null then (1::bigint << 53) - 1 else greatest(0,
        (select revision from revisions where latest < $2 order by latest desc, revision desc limit 1),
        (select revision from revisions where at < latest and at < $2 order by revision desc limit 1)) end as last`

	entryColumns = `select c.revision, c.ordinal, r.at, r.token, r.token_name, r.account, r.local, r.request_id, coalesce(r.address, '') as address,
    r.action, c.kind, c.owner, c.id, c.before, c.after, c.personal
from `
	byWhom = `
where ($1::timestamptz is null or r.at >= $1) and ($2::timestamptz is null or r.at < $2)
    and ($3 = '' or r.token = $3 or r.account = $3) and ($4 = '' or r.action = $4)`
	ofWhat = ` and ($5 = '' or a.kind = $5) and ($6 = '' or a.id = $6)
    and ($7 = '' or a.kind = 'member' and a.id = $7 or a.kind = 'grant' and split_part(a.id, '/', 1) = $7)`

	entryOf = `select a.revision, a.ordinal, a.kind, a.owner, a.id, a.before, a.after, a.personal from changes a where `

	// Along revisions, of each the entries behind the place: one index gives them in
	// order. Comparing rows, and in the order of all columns, keeps the planner to it: it
	// might take something rare for frequent, and walk the whole log to find it.
	alongRevisions = entryColumns + `revisions r cross join lateral (` + entryOf + `a.revision = r.revision`
	ofAny          = ` and a.owner = any (r.owners)`
	ofOwner        = ` and a.owner = $12`
	behindUp       = ofWhat + `
    and a.ordinal > case when r.revision = $8 then $9::int else -1 end order by a.ordinal limit $10) c` + byWhom + ` and `
	behindDown = ofWhat + `
    and a.ordinal < case when r.revision = $8 then $9::int else 2147483647 end order by a.ordinal desc limit $10) c` + byWhom + ` and `
	orElse    = `) union all (`
	inOrder   = `) order by revision, ordinal limit $10`
	inReverse = `) order by revision desc, ordinal desc limit $10`

	byActionUp   = `(r.action, r.revision) >= ($4, $8) and (r.action, r.revision) <= ($4, $11) order by r.action, r.revision, c.ordinal limit $10`
	byActionDown = `(r.action, r.revision) <= ($4, $8) and (r.action, r.revision) >= ($4, $11)
order by r.action desc, r.revision desc, c.ordinal desc limit $10`
	byServiceUp = `r.token <> '' and (r.token, r.revision) >= ($3, $8) and (r.token, r.revision) <= ($3, $11)
order by r.token, r.revision, c.ordinal limit $10`
	byServiceDown = `r.token <> '' and (r.token, r.revision) <= ($3, $8) and (r.token, r.revision) >= ($3, $11)
order by r.token desc, r.revision desc, c.ordinal desc limit $10`
	byAccountUp = `r.account <> '' and r.token <> $3 and (r.account, r.revision) >= ($3, $8) and (r.account, r.revision) <= ($3, $11)
order by r.account, r.revision, c.ordinal limit $10`
	byAccountDown = `r.account <> '' and r.token <> $3 and (r.account, r.revision) <= ($3, $8) and (r.account, r.revision) >= ($3, $11)
order by r.account desc, r.revision desc, c.ordinal desc limit $10`
	// The same of an owner.
	ownActionUp = `(r.owners[1], r.action, r.revision) >= ($12, $4, $8) and (r.owners[1], r.action, r.revision) <= ($12, $4, $11)
order by r.owners[1], r.action, r.revision, c.ordinal limit $10`
	ownActionDown = `(r.owners[1], r.action, r.revision) <= ($12, $4, $8) and (r.owners[1], r.action, r.revision) >= ($12, $4, $11)
order by r.owners[1] desc, r.action desc, r.revision desc, c.ordinal desc limit $10`
	ownServiceUp = `r.token <> '' and (r.owners[1], r.token, r.revision) >= ($12, $3, $8) and (r.owners[1], r.token, r.revision) <= ($12, $3, $11)
order by r.owners[1], r.token, r.revision, c.ordinal limit $10`
	ownServiceDown = `r.token <> '' and (r.owners[1], r.token, r.revision) <= ($12, $3, $8) and (r.owners[1], r.token, r.revision) >= ($12, $3, $11)
order by r.owners[1] desc, r.token desc, r.revision desc, c.ordinal desc limit $10`
	ownAccountUp = `r.account <> '' and r.token <> $3
    and (r.owners[1], r.account, r.revision) >= ($12, $3, $8) and (r.owners[1], r.account, r.revision) <= ($12, $3, $11)
order by r.owners[1], r.account, r.revision, c.ordinal limit $10`
	ownAccountDown = `r.account <> '' and r.token <> $3
    and (r.owners[1], r.account, r.revision) <= ($12, $3, $8) and (r.owners[1], r.account, r.revision) >= ($12, $3, $11)
order by r.owners[1] desc, r.account desc, r.revision desc, c.ordinal desc limit $10`
	// An owner's among others'.
	amongUp = `cardinality(r.owners) > 1 and r.owners @> array[$12::text] and r.owners[1] <> $12 and r.revision >= $8 and r.revision <= $11
order by r.revision, c.ordinal limit $10`
	amongDown = `cardinality(r.owners) > 1 and r.owners @> array[$12::text] and r.owners[1] <> $12 and r.revision <= $8 and r.revision >= $11
order by r.revision desc, c.ordinal desc limit $10`

	sqlEntries             = alongRevisions + ofAny + behindUp + `r.revision >= $8 and r.revision <= $11 order by r.revision, c.ordinal limit $10`
	sqlEntriesDown         = alongRevisions + ofAny + behindDown + `r.revision <= $8 and r.revision >= $11 order by r.revision desc, c.ordinal desc limit $10`
	sqlEntriesByAction     = alongRevisions + ofAny + behindUp + byActionUp
	sqlEntriesByActionDown = alongRevisions + ofAny + behindDown + byActionDown
	sqlEntriesByActor      = `(` + alongRevisions + ofAny + behindUp + byServiceUp + orElse + alongRevisions + ofAny + behindUp + byAccountUp + inOrder
	sqlEntriesByActorDown  = `(` + alongRevisions + ofAny + behindDown + byServiceDown + orElse +
		alongRevisions + ofAny + behindDown + byAccountDown + inReverse
	sqlEntriesByActionOf     = `(` + alongRevisions + ofOwner + behindUp + ownActionUp + orElse + alongRevisions + ofOwner + behindUp + amongUp + inOrder
	sqlEntriesByActionOfDown = `(` + alongRevisions + ofOwner + behindDown + ownActionDown + orElse +
		alongRevisions + ofOwner + behindDown + amongDown + inReverse
	sqlEntriesByActorOf = `(` + alongRevisions + ofOwner + behindUp + ownServiceUp + orElse +
		alongRevisions + ofOwner + behindUp + ownAccountUp + orElse + alongRevisions + ofOwner + behindUp + amongUp + inOrder
	sqlEntriesByActorOfDown = `(` + alongRevisions + ofOwner + behindDown + ownServiceDown + orElse +
		alongRevisions + ofOwner + behindDown + ownAccountDown + orElse + alongRevisions + ofOwner + behindDown + amongDown + inReverse

	// Along entries, of each the revision (offset 0: the planner does not look inside).
	alongEntries = entryColumns + `(` + entryOf
	entriesUp    = ofWhat + `
    and (a.revision, a.ordinal) > ($8, $9) and a.revision <= $11 order by a.revision, a.ordinal offset 0) c
    ` + itsRevision + byWhom + ` order by c.revision, c.ordinal limit $10`
	entriesDown = ofWhat + `
    and (a.revision, a.ordinal) < ($8, $9) and a.revision >= $11 order by a.revision desc, a.ordinal desc offset 0) c
    ` + itsRevision + byWhom + ` order by c.revision desc, c.ordinal desc limit $10`
	itsRevision = `cross join lateral (select at, token, token_name, account, local, request_id, address, action
    from revisions where revision = c.revision offset 0) r`
	ofMember = `(a.id = $7 or a.id >= $7 || '/' and a.id < $7 || '0')`

	// Along runs, of each the entries behind the place, which may be inside one.
	ofRun = `changes l cross join lateral (` + entryOf + `a.owner = l.owner and a.revision = l.revision
    and a.ordinal >= l.ordinal and a.ordinal < l.ordinal + l.run`
	runUp = ofWhat + ` and (a.revision, a.ordinal) > ($8, $9) order by a.ordinal limit $10) c
    ` + itsRevision + byWhom + ` and l.run is not null and (l.owner, l.kind, l.revision, l.ordinal) >= ($12, $5, $8, coalesce((select f.ordinal from changes f
        where f.run is not null and f.owner = $12 and f.kind = $5 and f.revision = $8 and f.ordinal <= $9 order by f.ordinal desc limit 1), 0))
    and (l.owner, l.kind, l.revision) <= ($12, $5, $11)
order by l.owner, l.kind, l.revision, l.ordinal, c.ordinal limit $10`
	runDown = ofWhat + ` and (a.revision, a.ordinal) < ($8, $9) order by a.ordinal desc limit $10) c
    ` + itsRevision + byWhom + ` and l.run is not null and (l.owner, l.kind, l.revision, l.ordinal) <= ($12, $5, $8, $9)
    and (l.owner, l.kind, l.revision) >= ($12, $5, $11)
order by l.owner desc, l.kind desc, l.revision desc, l.ordinal desc, c.ordinal desc limit $10`

	sqlEntriesOf              = alongEntries + `a.owner = $12` + entriesUp
	sqlEntriesOfDown          = alongEntries + `a.owner = $12` + entriesDown
	sqlEntriesOfKind          = entryColumns + ofRun + runUp
	sqlEntriesOfKindDown      = entryColumns + ofRun + runDown
	sqlEntriesOfObject        = alongEntries + `a.owner = $12 and a.id = $6` + entriesUp
	sqlEntriesOfObjectDown    = alongEntries + `a.owner = $12 and a.id = $6` + entriesDown
	sqlEntriesOfID            = alongEntries + `a.id = $6` + entriesUp
	sqlEntriesOfIDDown        = alongEntries + `a.id = $6` + entriesDown
	sqlEntriesOfMember        = alongEntries + `a.owner = $12 and ` + ofMember + entriesUp
	sqlEntriesOfMemberDown    = alongEntries + `a.owner = $12 and ` + ofMember + entriesDown
	sqlEntriesOfAnyMember     = alongEntries + ofMember + entriesUp
	sqlEntriesOfAnyMemberDown = alongEntries + ofMember + entriesDown
)

// query is the query that the filter narrows most.
func (f AuditFilter) query() string {
	all, down, of, ofDown := sqlEntries, sqlEntriesDown, sqlEntriesOf, sqlEntriesOfDown
	switch {
	case f.ID != "":
		all, down, of, ofDown = sqlEntriesOfID, sqlEntriesOfIDDown, sqlEntriesOfObject, sqlEntriesOfObjectDown
	case f.Member != "":
		all, down, of, ofDown = sqlEntriesOfAnyMember, sqlEntriesOfAnyMemberDown, sqlEntriesOfMember, sqlEntriesOfMemberDown
	case f.Actor != "":
		all, down, of, ofDown = sqlEntriesByActor, sqlEntriesByActorDown, sqlEntriesByActorOf, sqlEntriesByActorOfDown
	case f.Action != "":
		all, down, of, ofDown = sqlEntriesByAction, sqlEntriesByActionDown, sqlEntriesByActionOf, sqlEntriesByActionOfDown
	case f.Kind != "":
		of, ofDown = sqlEntriesOfKind, sqlEntriesOfKindDown
	}
	switch {
	case f.Owner != "" && f.Descending:
		return ofDown
	case f.Owner != "":
		return of
	case f.Descending:
		return down
	default:
		return all
	}
}
