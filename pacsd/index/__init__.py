"""The PACS database: patients, studies, series, instances, where their files lie, jobs and peers
(SQLAlchemy Core).
"""
