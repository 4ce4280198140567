-- What operators did is kept by its own number, and not pushed out by what comes of clients.
CREATE INDEX audit_people ON audit (seq) WHERE actor IN ('operator', 'stranger');
CREATE INDEX audit_others ON audit (seq) WHERE actor NOT IN ('operator', 'stranger');
