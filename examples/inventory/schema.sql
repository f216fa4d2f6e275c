CREATE TABLE warehouses (
    name TEXT PRIMARY KEY,
    city TEXT NOT NULL
);

CREATE TABLE suppliers (
    name TEXT PRIMARY KEY,
    email TEXT NOT NULL,
    lead_time_days INTEGER NOT NULL
);

CREATE TABLE products (
    sku TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    category TEXT NOT NULL,
    price REAL NOT NULL,
    reorder_level INTEGER NOT NULL,
    supplier TEXT NOT NULL REFERENCES suppliers
);

CREATE TABLE stock (
    sku TEXT NOT NULL REFERENCES products,
    warehouse TEXT NOT NULL REFERENCES warehouses,
    quantity INTEGER NOT NULL CHECK (quantity >= 0),
    PRIMARY KEY (sku, warehouse)
);

CREATE TABLE purchase_orders (
    id INTEGER PRIMARY KEY,
    sku TEXT NOT NULL REFERENCES products,
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    status TEXT NOT NULL DEFAULT 'placed'
);

CREATE TABLE reservations (
    id INTEGER PRIMARY KEY,
    sku TEXT NOT NULL REFERENCES products,
    quantity INTEGER NOT NULL CHECK (quantity > 0)
);

-- What can still be promised: units on the shelves less units reserved.
CREATE VIEW available AS
SELECT
    p.sku,
    p.name,
    COALESCE((SELECT SUM(quantity) FROM stock s WHERE s.sku = p.sku), 0) AS in_stock,
    COALESCE((SELECT SUM(quantity) FROM reservations r WHERE r.sku = p.sku), 0) AS reserved
FROM products p;
