"""Invoice lines of the published file summed to invoices and credit notes, with the customer's next invoice."""

from pathlib import Path

import duckdb


def write(data: Path, folder: Path) -> None:
    """Writes invoices.parquet, credits.parquet and countries.csv: rows with a customer and a price."""
    table = data / "online_retail" / "online_retail.parquet"
    wanted = f"(select *, Quantity * UnitPrice as paid from '{table}' where CustomerID is not null and UnitPrice > 0)"
    summed = f"""
        select InvoiceNo as invoice, any_value(CustomerID::INT)::VARCHAR as customer, any_value(Country) as country,
               min(InvoiceDate) as at, count(*) as lines, sum(Quantity) as pieces, round(sum(paid), 2) as value,
               left(max((paid, StockCode))[2], 3) as top_item
        from {wanted} group by InvoiceNo
    """
    connection = duckdb.connect()
    connection.execute(f"create table invoices as {summed.replace('as at', 'as written')}")
    connection.execute(f"""
        copy (select invoice, customer, country, written as at, lines, pieces, value, top_item, next_at, credited_at
              from (select *, lead(written) over (partition by customer order by written, invoice) as next_at
                    from invoices where pieces > 0 and left(invoice, 1) != 'C')
              asof left join (select customer as whose, written as credited_at from invoices where pieces < 0)
                on customer = whose and written <= credited_at
              order by written, invoice)
        to '{folder}/invoices.parquet' (format parquet)
    """)
    connection.execute(f"""
        copy (select invoice, customer, written as at, -pieces as pieces, -value as value
              from invoices where pieces < 0 order by written, invoice)
        to '{folder}/credits.parquet' (format parquet)
    """)
    connection.execute(f"""
        copy (select country, date_trunc('month', written) + interval 1 month as month,
                     round(avg(value), 2) as mean_value, round(avg(lines), 1) as mean_lines
              from invoices where pieces > 0 group by all order by all)
        to '{folder}/countries.csv' (header)
    """)
    connection.close()
