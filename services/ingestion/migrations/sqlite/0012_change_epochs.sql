-- From which sequence number on changes belong to which history of the database (storage::epochs): one row a start. A
-- database that was put back from a copy gives numbers out again, and tells by these that they are other changes.
CREATE TABLE change_epochs (
    first_sequence BIGINT PRIMARY KEY,
    epoch TEXT NOT NULL
) WITHOUT ROWID;
